"""Case checks: every kind of bad file gives one message that names the file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from brats_clip.cases import check_case, check_cases, find_cases, read_case
from brats_clip.errors import CaseError, LabelError, ReportError
from brats_clip.labels import BRATS_2018, BRATS_2023, MSD
from tests.cases.case_files import (
    AFFINE,
    SHAPE,
    make_image,
    make_label,
    write_case,
    write_msd_case,
    write_nifti,
)


def only_problem(case: dict):
    result = check_case(case)
    assert not result.ok
    (problem,) = result.problems
    assert "\n" not in str(problem)
    return problem


def replace(case: dict, key: str, array: np.ndarray, affine: np.ndarray = AFFINE) -> dict:
    write_nifti(Path(case[key]), array, affine)
    return case


def test_valid_case_is_described(tmp_path):
    result = check_case(write_case(tmp_path, report="A lesion."))
    assert result.ok and not result.notes
    assert result.label_convention == BRATS_2018
    assert result.shape == SHAPE
    assert result.spacing == (1.0, 1.0, 1.5)
    assert result.has_report
    assert result.volumes == {"WT": 1.5, "TC": 0.324, "ET": 0.012}  # ml: 1000, 216 and 8 voxels of 1.5 mm3


def test_case_without_label_and_report_is_valid(tmp_path):
    result = check_case(write_case(tmp_path, label=False))
    assert result.ok and result.volumes is None and result.label_convention == "" and not result.has_report


def test_missing_sequence_is_a_case_error(tmp_path):
    case = write_case(tmp_path)
    del case["t1ce"]
    problem = only_problem(case)
    assert isinstance(problem, CaseError)
    assert (problem.where, problem.found) == ("case BraTS2021_00000", "no t1ce")


def test_missing_file_is_named(tmp_path):
    case = write_case(tmp_path)
    Path(case["t2"]).unlink()
    problem = only_problem(case)
    assert (problem.where, problem.found) == (case["t2"], "no file")


def test_one_file_for_two_sequences_is_refused(tmp_path):
    case = write_case(tmp_path)
    problem = only_problem(case | {"t1ce": case["t1"]})
    assert problem.found == "one file for t1 and t1ce"


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated_gzip_file_is_refused(tmp_path, share):
    case = write_case(tmp_path)
    path = Path(case["t2"])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    problem = only_problem(case)
    assert problem.where == case["t2"] and "truncated" in problem.found


def test_gzip_file_with_a_flipped_bit_is_refused(tmp_path):
    case = write_case(tmp_path)
    path = Path(case["t2"])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    assert "damaged gzip" in only_problem(case).found


@pytest.mark.parametrize("size", [100, 340, 2000])
def test_truncated_uncompressed_file_is_refused(tmp_path, size):
    case = write_case(tmp_path, extension=".nii")
    path = Path(case["flair"])
    path.write_bytes(path.read_bytes()[:size])
    assert only_problem(case).where == case["flair"]


@pytest.mark.parametrize(
    ("content", "found"), [(b"", "an empty file"), (b"version https://git-lfs" * 30, "a file without a NIfTI header")]
)
def test_file_that_is_not_nifti_is_refused(tmp_path, content, found):
    case = write_case(tmp_path)
    Path(case["t1"]).write_bytes(content)
    assert only_problem(case).found == found


def test_uncompressed_file_named_gz_is_read(tmp_path):
    case, unpacked = write_case(tmp_path), write_case(tmp_path / "other", extension=".nii")
    Path(case["t1"]).write_bytes(Path(unpacked["t1"]).read_bytes())
    assert check_case(case).ok


@pytest.mark.parametrize("shape", [(24, 28), (24, 28, 1)])
def test_2d_image_is_refused(tmp_path, shape):
    image = np.random.default_rng(0).integers(0, 99, shape).astype(np.int16)
    problem = only_problem(replace(write_case(tmp_path), "t1", image))
    assert problem.expected == "a 3D image"


def test_4d_image_without_a_channel_error_explains_the_notation(tmp_path):
    problem = only_problem(replace(write_case(tmp_path), "t1", make_image(100, (*SHAPE, 12))))
    assert "path#0" in problem.expected


def test_trailing_axis_of_length_one_is_accepted(tmp_path):
    assert check_case(replace(write_case(tmp_path), "t1", make_image(100)[..., None])).ok


def test_sequence_of_another_shape_is_refused(tmp_path):
    problem = only_problem(replace(write_case(tmp_path), "t2", make_image(300, (24, 28, 22))))
    assert problem.found == "a grid of 24 x 28 x 22 voxels"
    assert problem.expected == "24 x 28 x 20, that of BraTS2021_00000_t1ce.nii.gz"


def test_shifted_grid_error_states_the_distance(tmp_path):
    affine = AFFINE.copy()
    affine[0, 3] += 0.5
    problem = only_problem(replace(write_case(tmp_path), "t2", make_image(300), affine))
    assert "0.5 mm away" in problem.found


def test_rounding_error_of_the_affine_is_accepted(tmp_path):
    assert check_case(replace(write_case(tmp_path), "t2", make_image(300), AFFINE + 1e-4 * np.eye(4)[[0, 1, 2, 2]])).ok


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_voxels_are_counted(tmp_path, value):
    image = make_image(400).astype(np.float32)
    image[3, 3, 3] = value
    problem = only_problem(replace(write_case(tmp_path), "flair", image))
    assert problem.found == f"1 of {image.size} voxels NaN or infinite"


@pytest.mark.parametrize("value", [0, 7])
def test_constant_image_is_refused(tmp_path, value):
    problem = only_problem(replace(write_case(tmp_path), "t1ce", np.full(SHAPE, value, np.int16)))
    assert problem.found == f"the value {value} in every voxel"


def test_every_problem_is_listed(tmp_path):
    case = write_case(tmp_path, report="")
    Path(case["t2"]).unlink()
    replace(case, "t1", np.zeros(SHAPE, np.int16))
    replace(case, "label", make_label(et=9))
    kinds = [type(problem) for problem in check_case(case).problems]
    assert kinds == [CaseError, CaseError, LabelError, ReportError]


def test_problems_keep_no_traceback_or_cause(tmp_path):
    case = write_case(tmp_path)
    Path(case["t2"]).write_bytes(Path(case["t2"]).read_bytes()[:500])
    problem = only_problem(case)
    assert problem.__traceback__ is None and problem.__cause__ is None


@pytest.mark.parametrize("values", [5, 9])
def test_unknown_label_value_is_a_label_error(tmp_path, values):
    problem = only_problem(replace(write_case(tmp_path), "label", make_label(et=values)))
    assert isinstance(problem, LabelError)
    assert problem.where.endswith("BraTS2021_00000_seg.nii.gz") and str(values) in problem.found


def test_fractional_negative_or_nan_label_is_a_label_error(tmp_path):
    for value in (0.5, -1, np.nan):
        label = make_label().astype(np.float32)
        label[0, 0, 0] = value
        assert isinstance(only_problem(replace(write_case(tmp_path), "label", label)), LabelError)


def test_float_label_with_whole_values_is_accepted(tmp_path):
    result = check_case(replace(write_case(tmp_path), "label", make_label().astype(np.float64)))
    assert result.ok and result.volumes["ET"] == 0.012


def test_label_values_rounded_by_a_scale_factor_are_accepted(tmp_path):
    case = write_case(tmp_path)
    label = make_label().astype(np.float64) * (1 + 1.14e-5)
    assert float(label.max()) == pytest.approx(4.0000456)
    write_nifti(tmp_path / "BraTS2021_00000" / "BraTS2021_00000_seg.nii.gz", label)
    content = read_case(case)
    assert np.array_equal(content.label, make_label()) and not check_case(case).problems


def test_label_on_another_grid_is_a_label_error(tmp_path):
    problem = only_problem(replace(write_case(tmp_path), "label", make_label(shape=(24, 28, 22))))
    assert isinstance(problem, LabelError) and "24 x 28 x 22" in problem.found


def test_truncated_label_is_a_label_error(tmp_path):
    case = write_case(tmp_path)
    path = Path(case["label"])
    path.write_bytes(path.read_bytes()[:-30])
    assert isinstance(only_problem(case), LabelError)


def test_empty_label_is_noted(tmp_path):
    result = check_case(write_case(tmp_path, label=np.zeros(SHAPE, np.uint8)))
    assert result.ok and result.notes == ["the label holds no tumour"]


def test_convention_follows_file_names_if_values_are_ambiguous(tmp_path):
    no_et = make_label(et=1)
    assert check_case(write_case(tmp_path, label=no_et)).label_convention == BRATS_2018
    assert check_case(write_case(tmp_path, "BraTS-GLI-1-0", "2023", label=no_et)).label_convention == BRATS_2023
    assert check_case(write_case(tmp_path, "BraTS-GLI-2-0", "2023")).label_convention == BRATS_2023


def test_msd_label_swaps_oedema_and_core(tmp_path):
    result = check_case(write_msd_case(tmp_path))
    assert result.ok and result.label_convention == MSD
    # 1 is oedema in MSD: of the blocks 2 (outer), 1 (middle) and 3 (inner), the outer is the core.
    assert result.volumes == {"WT": 1.5, "TC": (1000 - 216 + 8) * 1.5 / 1000, "ET": 0.012}


def test_value_3_under_brats_2021_names_is_noted_unless_the_convention_is_given(tmp_path):
    case = write_case(tmp_path, label=make_label(et=3))
    result = check_case(case)
    assert result.label_convention == BRATS_2023 and "MSD" in result.notes[0]
    result = check_case(case | {"label_convention": MSD})
    assert result.label_convention == MSD and not result.notes


@pytest.mark.parametrize("with_et", [True, False])
def test_brats_2024_resection_cavity_is_not_read_as_enhancing_tumour(tmp_path, with_et):
    label = make_label(et=3 if with_et else 1)
    label[0:3, 0:3, 0:3] = 4
    case = write_case(tmp_path, "BraTS-GLI-02405-100", "2023", label=label)
    content = read_case(case)
    expected = np.where(label == 4, 0, make_label(et=4 if with_et else 1))
    assert np.array_equal(content.label, expected)
    assert any("resection cavity" in note for note in check_case(case).notes)
    problem = only_problem(case | {"label_convention": BRATS_2023})
    assert problem.found == "the label value 4"


def test_pediatric_labels_are_detected_from_the_case_name(tmp_path):
    label = make_label(et=3)
    label[0:3, 0:3, 0:3] = 4
    case = write_case(tmp_path, "BraTS-PED-00012-000", "2023", label=label)
    content = read_case(case)
    meaning = np.array([0, 4, 1, 1, 2], np.uint8)  # 1 enhancing, 2 and 3 not enhancing or cystic, 4 oedema
    assert np.array_equal(content.label, meaning[label]) and "PED" in content.label_convention
    meningioma = write_case(tmp_path, "BraTS-MEN-00012-000", "2023", label=make_label(et=3))
    assert np.array_equal(read_case(meningioma).label, make_label())


def test_values_that_contradict_the_given_convention_are_refused(tmp_path):
    case = write_case(tmp_path, label=make_label(et=3))
    assert isinstance(only_problem(case | {"label_convention": BRATS_2018}), LabelError)
    assert "one of" in only_problem(case | {"label_convention": "mine"}).expected


def test_missing_channel_of_a_4d_file_is_refused(tmp_path):
    case = write_msd_case(tmp_path)
    case["t2"] = case["t2"].replace("#3", "#4")
    assert only_problem(case).expected == "a 4D image with a channel 4"


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"", "an empty file"), (b" \n", "an empty file"), (b"\x00\x01lesion", "binary data"), (b"\xff\xfel", "the byte")],
)
def test_empty_or_binary_report_is_a_report_error(tmp_path, content, found):
    case = write_case(tmp_path, report="A lesion.")
    Path(case["report_path"]).write_bytes(content)
    problem = only_problem(case)
    assert isinstance(problem, ReportError)
    assert problem.where == case["report_path"] and found in problem.found


def test_missing_report_file_is_a_report_error(tmp_path):
    problem = only_problem(write_case(tmp_path) | {"report_path": str(tmp_path / "none.txt")})
    assert isinstance(problem, ReportError) and problem.found == "no file"


def test_check_cases_keeps_the_order(tmp_path):
    cases = [write_case(tmp_path, f"BraTS2021_0000{i}") for i in range(5)]
    Path(cases[3]["t1"]).unlink()
    results = check_cases(cases, workers=3)
    assert [result.case for result in results] == [case["case"] for case in cases]
    assert [result.ok for result in results] == [True, True, True, False, True]


@pytest.mark.real
@pytest.mark.skipif("BRATS_DIR" not in os.environ, reason="BRATS_DIR is not set: no real cases")
def test_real_cases_are_valid():
    results = check_cases(find_cases(os.environ["BRATS_DIR"]))
    assert results and all(result.ok for result in results)
    for result in results:
        assert result.shape == (240, 240, 155) and result.spacing == (1.0, 1.0, 1.0)
        assert result.label_convention == BRATS_2018
        assert result.volumes["WT"] >= result.volumes["TC"] >= result.volumes["ET"] >= 0
        assert result.volumes["WT"] > 1
