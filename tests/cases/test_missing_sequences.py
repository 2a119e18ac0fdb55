"""A case with one to three sequences is refused unless missing sequences are allowed."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_clip.cases import SEQUENCES, Volume, check_case, load_cases, read_case, read_volume
from brats_clip.errors import CaseError, InputError
from brats_clip.transforms import LoadCased
from tests.cases.case_files import AFFINE, SHAPE, make_image, write_case, write_nifti


def write_partial(root: Path, *given: str, name: str = "BraTS2021_00000", **options) -> dict:
    case = write_case(root, name, **options)
    for sequence in set(SEQUENCES) - set(given):
        Path(case.pop(sequence)).unlink()
    return case


def test_incomplete_case_error_names_the_option_that_allows_it(tmp_path):
    write_partial(tmp_path, "t1", "t1ce", "flair")
    with pytest.raises(CaseError, match=r"case BraTS2021_00000 without t2.*--allow_missing_sequences true"):
        load_cases(tmp_path)


def test_several_incomplete_cases_are_refused_together(tmp_path):
    write_partial(tmp_path, "flair", name="BraTS2021_00001")
    write_partial(tmp_path, "t1", "t2", name="BraTS2021_00002")
    with pytest.raises(CaseError, match=r"00001 without t1, t1ce, t2; case .*00002 without t1ce, flair.*allow_missing"):
        load_cases(tmp_path)


def test_incomplete_cases_of_a_batch_raise_when_loaded(tmp_path):
    write_partial(tmp_path, "flair", name="BraTS2021_00001")
    whole = write_case(tmp_path, "BraTS2021_00003")
    twice = write_case(tmp_path, "BraTS2021_00004")
    Path(twice["t2"]).with_suffix("").write_bytes(Path(twice["t1"]).read_bytes())  # .nii beside .nii.gz
    first, second, third = load_cases(tmp_path)
    assert second == whole and [first["case"][-1], third["case"][-1]] == ["1", "4"]
    with pytest.raises(CaseError, match=r"00001 without t1, t1ce, t2.*--allow_missing_sequences true"):
        LoadCased()(first)
    with pytest.raises(CaseError, match="both"):
        LoadCased()(third)


@pytest.mark.parametrize("allowed", [True, "true", "True"])
@pytest.mark.parametrize("given", [("flair",), ("t1", "t2"), ("t1", "t1ce", "t2")])
def test_allowed_incomplete_case_has_only_its_sequences(tmp_path, allowed, given):
    written = write_partial(tmp_path, *given, report="A lesion.")
    (case,) = load_cases(tmp_path, allow_missing_sequences=allowed)
    assert case == written and not set(case) & (set(SEQUENCES) - set(given))


@pytest.mark.parametrize("allowed", [False, "false"])
def test_incomplete_case_is_refused_if_not_allowed(tmp_path, allowed):
    write_partial(tmp_path, "flair")
    with pytest.raises(CaseError, match="without t1, t1ce, t2"):
        load_cases(tmp_path, allow_missing_sequences=allowed)


def test_complete_and_incomplete_cases_are_sorted_by_name(tmp_path):
    for i, given in enumerate((SEQUENCES, ("flair",), SEQUENCES, ("t1ce", "t2"))):
        write_partial(tmp_path, *given, name=f"BraTS2021_0000{i}")
    cases = load_cases(tmp_path, allow_missing_sequences=True)
    assert [case["case"][-1] for case in cases] == ["0", "1", "2", "3"]
    assert [sum(s in case for s in SEQUENCES) for case in cases] == [4, 1, 4, 2]


def test_duplicate_sequence_files_stay_an_error(tmp_path):
    case = write_case(tmp_path)
    Path(case["t2"]).with_suffix("").write_bytes(Path(case["t1"]).read_bytes())  # .nii beside .nii.gz
    with pytest.raises(CaseError, match="both"):
        load_cases(tmp_path, allow_missing_sequences=True)


def test_label_without_images_is_an_error(tmp_path):
    write_partial(tmp_path)
    with pytest.raises(InputError, match="without images"):
        load_cases(tmp_path, allow_missing_sequences=True)


@pytest.mark.parametrize("garbage", ["yes", "", "1", 1, None])
def test_invalid_switch_value_is_an_error(tmp_path, garbage):
    write_case(tmp_path)
    with pytest.raises(InputError, match=r"--allow_missing_sequences: found .*expected True or False"):
        load_cases(tmp_path, allow_missing_sequences=garbage)
    with pytest.raises(InputError, match="--allow_missing_sequences"):
        LoadCased(allow_missing_sequences=garbage)


def test_missing_sequence_is_filled_with_zeros_and_listed(tmp_path):
    case = write_partial(tmp_path, "t1ce", "flair")
    data = LoadCased(allow_missing_sequences="true")(case)
    assert data["sequences_missing"] == "t1, t2" and data["image"].shape == (4, *SHAPE)
    assert not data["image"][0].any() and not data["image"][2].any()
    np.testing.assert_array_equal(data["image"][1].numpy(), nib.load(case["t1ce"]).get_fdata())
    np.testing.assert_array_equal(data["image"][3].numpy(), nib.load(case["flair"]).get_fdata())


def test_complete_case_lists_no_missing_sequences(tmp_path):
    assert LoadCased()(write_case(tmp_path))["sequences_missing"] == ""


@pytest.mark.parametrize(("given", "first"), [(("t2", "flair"), "t2"), (("t1", "t1ce"), "t1ce"), (("flair",), "flair")])
def test_geometry_is_that_of_t1ce_or_the_first_sequence(tmp_path, given, first):
    case = write_partial(tmp_path, *given)
    image = LoadCased(allow_missing_sequences=True)(case)["image"]
    assert image.meta["filename_or_obj"] == case[first]
    np.testing.assert_allclose(image.affine.numpy(), AFFINE)
    assert tuple(image.meta["spatial_shape"]) == SHAPE


def test_load_cased_refuses_missing_sequences_by_default(tmp_path):
    case = write_partial(tmp_path, "t1ce", "flair")
    with pytest.raises(CaseError, match="no t1, t2"):
        LoadCased()(case)
    with pytest.raises(CaseError, match="no t1, t1ce, t2, flair"):
        LoadCased(allow_missing_sequences=True)({"case": "empty"})


def test_remaining_sequences_are_still_checked(tmp_path):
    case = write_partial(tmp_path, "t2", "flair")
    write_nifti(Path(case["flair"]), make_image(400, (24, 28, 22)))
    with pytest.raises(CaseError, match=r"_flair\.nii\.gz: found a grid"):
        LoadCased(allow_missing_sequences=True)(case)


def test_check_case_requires_all_four_sequences(tmp_path):
    case = write_partial(tmp_path, "t1ce", "flair")
    assert any("no t1, t2" in str(problem) for problem in check_case(case).problems)


def test_volumes_in_memory_replace_files(tmp_path):
    case = write_case(tmp_path)
    volumes = {s: read_volume(case[s]) for s in ("t1", "t1ce")}
    read = LoadCased()({**case, **volumes})
    assert np.array_equal(read["image"].numpy(), LoadCased()(case)["image"].numpy())
    assert read["image"].meta["filename_or_obj"] == case["t1ce"]


@pytest.mark.parametrize(
    ("array", "affine", "what"),
    [
        (make_image(300, (24, 28, 22)), AFFINE, "in memory.*a grid of 24 x 28 x 22"),
        (make_image(300), AFFINE + np.diag([0, 0, 0.5, 0]), "in memory.*mm away"),
        (np.full(SHAPE, 7.0), AFFINE, "in memory.*7 in every voxel"),
        (np.full(SHAPE, np.nan), AFFINE, "in memory.*NaN"),
    ],
)
def test_volumes_are_checked_like_files(tmp_path, array, affine, what):
    case = {**write_case(tmp_path), "t2": Volume(array.astype(np.float32), affine, "t2 (in memory)")}
    with pytest.raises(CaseError, match=what):
        read_case(case)


def test_one_volume_for_two_sequences_is_refused(tmp_path):
    case = write_case(tmp_path)
    volume = read_volume(case["t1"])
    with pytest.raises(CaseError, match="one file for t1 and t2"):
        read_case({**case, "t1": volume, "t2": volume})
