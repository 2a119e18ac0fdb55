"""LoadCased loads named files as one image on one grid."""

from __future__ import annotations

import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, CropForegroundd, Invertd, Orientationd, SaveImage, Spacingd

from brats_clip.cases import find_cases, read_volume
from brats_clip.errors import CaseError, LabelError, ReportError
from brats_clip.labels import BRATS_2018, MSD
from brats_clip.transforms.load_case import LoadCased
from tests.cases.case_files import AFFINE, SHAPE, make_image, make_label, write_case, write_msd_case, write_nifti


def test_sequences_are_stacked_in_the_documented_order(tmp_path):
    case = write_case(tmp_path)
    image = LoadCased()(dict(reversed(case.items())))["image"]
    assert isinstance(image, MetaTensor) and image.dtype == torch.float32 and image.shape == (4, *SHAPE)
    for channel, sequence in enumerate(("t1", "t1ce", "t2", "flair")):
        np.testing.assert_array_equal(image[channel].numpy(), nib.load(case[sequence]).get_fdata())


def test_label_holds_internal_values_on_the_grid_of_the_image(tmp_path):
    data = LoadCased()(write_case(tmp_path, "BraTS-GLI-00000-000", "2023"))
    assert data["label"].dtype == torch.uint8 and data["label"].shape == (1, *SHAPE)
    np.testing.assert_array_equal(data["label"][0].numpy(), make_label(et=4))
    assert torch.equal(data["label"].affine, data["image"].affine)


def test_msd_case_equals_the_same_case_in_brats_files(tmp_path):
    msd = LoadCased()(write_msd_case(tmp_path / "msd"))
    brats = LoadCased()(write_case(tmp_path / "brats"))
    assert torch.equal(msd["image"].as_tensor(), brats["image"].as_tensor())
    assert msd["convention"] == MSD and brats["convention"] == BRATS_2018
    assert msd["label"].unique().tolist() == [0, 1, 2, 4]
    assert int(msd["label"][0, 6, 6, 6]) == 1  # stored 2, which MSD calls non-enhancing core


def test_metadata_is_that_of_the_reference(tmp_path):
    case = write_case(tmp_path)
    image = LoadCased()(case)["image"]
    assert image.meta["filename_or_obj"] == case["t1ce"]
    np.testing.assert_allclose(image.affine.numpy(), AFFINE)
    np.testing.assert_allclose(image.meta["original_affine"], AFFINE)
    assert tuple(image.meta["spatial_shape"]) == SHAPE


def test_msd_file_name_has_no_channel(tmp_path):
    assert LoadCased()(write_msd_case(tmp_path))["image"].meta["filename_or_obj"].endswith("BRATS_001.nii.gz")


def test_result_inverts_and_saves_on_the_grid_of_the_input(tmp_path):
    case = write_case(tmp_path)
    chain = Compose(
        [
            LoadCased(),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=1.0),
            CropForegroundd("image", source_key="image"),
        ]
    )
    data = chain(case)
    assert data["image"].shape[1:] != SHAPE
    data["pred"] = MetaTensor(data["image"][:1].as_tensor(), meta=data["image"].meta)
    inverse = Invertd("pred", transform=chain, orig_keys="image", nearest_interp=False, to_tensor=True)
    inverted = inverse(data)["pred"]
    assert inverted.shape == (1, *SHAPE)
    np.testing.assert_allclose(inverted.affine.numpy(), AFFINE, atol=1e-5)
    SaveImage(tmp_path / "out", output_postfix="pred", separate_folder=False, print_log=False)(inverted)
    saved = nib.load(tmp_path / "out" / "BraTS2021_00000_t1ce_pred.nii.gz")
    np.testing.assert_allclose(saved.affine, AFFINE, atol=1e-5)
    inside = make_image(100)[6:-6, 6:-6, 6:-6].astype(np.float32)
    assert np.corrcoef(saved.get_fdata()[6:-6, 6:-6, 6:-6].ravel(), inside.ravel())[0, 1] > 0.8


def test_cases_collate_into_a_batch(tmp_path):
    cases = [write_case(tmp_path, f"BraTS2021_0000{i}", report="A lesion.") for i in range(2)]
    batch = next(iter(DataLoader(Dataset(cases, LoadCased()), batch_size=2)))
    assert batch["image"].shape == (2, 4, *SHAPE) and batch["label"].shape == (2, 1, *SHAPE)
    assert batch["report"] == ["A lesion."] * 2


def test_report_is_read_from_its_file_or_taken_as_text(tmp_path):
    case = write_case(tmp_path, report="\ufeffA lesion in the left frontal lobe.\n")
    assert LoadCased()(case)["report"] == "A lesion in the left frontal lobe."
    assert LoadCased()(case | {"report": "No enhancement."})["report"] == "No enhancement."
    assert LoadCased()(case | {"report_path": Path(case["report_path"])})["report"].startswith("A lesion")
    del case["report_path"]
    assert LoadCased()(case)["report"] == ""


def test_other_entries_are_kept_and_the_input_is_not_modified(tmp_path):
    case = write_case(tmp_path) | {"fold": 3}
    before = dict(case)
    data = LoadCased()(case)
    assert data["fold"] == 3 and data["case"] == case["case"]
    assert case == before


def test_missing_label_is_allowed_unless_it_is_needed(tmp_path):
    case = write_case(tmp_path, label=False)
    data = LoadCased()(case)
    assert "label" not in data and data["convention"] == ""
    with pytest.raises(LabelError, match="case BraTS2021_00000: found no label"):
        LoadCased(allow_missing_label=False)(case)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_stored_dtypes_are_read(tmp_path, kind):
    case = write_case(tmp_path)
    write_nifti(Path(case["t1"]), (make_image(100) // 2).astype(kind))
    np.testing.assert_array_equal(LoadCased()(case)["image"][0].numpy(), make_image(100) // 2)


def test_scl_slope_is_applied(tmp_path):
    case = write_case(tmp_path)
    stored = nib.Nifti1Image(make_image(100), AFFINE)
    stored.header.set_slope_inter(0.5, 10)
    scaled = nib.Nifti1Image(make_image(100) * 0.5 + 10, AFFINE, stored.header)
    nib.save(scaled, case["t1"])
    assert nib.load(case["t1"]).get_data_dtype() == np.int16
    np.testing.assert_allclose(read_volume(case["t1"]).array, make_image(100) * 0.5 + 10, atol=0.01)
    # The background then has the value 10 and is set to 0.
    np.testing.assert_allclose(LoadCased()(case)["image"][0].numpy(), make_image(100) * 0.5, atol=0.01)


@pytest.mark.parametrize(
    ("key", "array", "error"),
    [
        ("t2", make_image(300, (24, 28, 22)), CaseError),
        ("t1ce", np.zeros(SHAPE, np.int16), CaseError),
        ("flair", np.full(SHAPE, np.nan, np.float32), CaseError),
        ("t1", make_image(100)[..., 10], CaseError),
        ("label", make_label(et=7), LabelError),
    ],
    ids=["other grid", "constant", "NaN", "2D", "unknown label"],
)
def test_bad_file_error_names_the_file(tmp_path, key, array, error):
    case = write_case(tmp_path)
    write_nifti(Path(case[key]), array)
    with pytest.raises(error) as caught:
        LoadCased()(case)
    assert caught.value.where == case[key]
    assert "found" in str(caught.value) and "expected" in str(caught.value)


def test_missing_sequence_truncated_file_and_empty_report_are_errors(tmp_path):
    case = write_case(tmp_path, report="")
    with pytest.raises(ReportError, match="empty"):
        LoadCased()(case)
    with pytest.raises(CaseError, match="no t2"):
        LoadCased()({key: value for key, value in case.items() if key != "t2"})
    path = Path(case["t2"])
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CaseError, match=r"_t2\.nii\.gz: found a truncated"):
        LoadCased()(case)


@pytest.mark.real
@pytest.mark.skipif("BRATS_DIR" not in os.environ, reason="BRATS_DIR is not set: no real cases")
def test_real_case_loads_within_two_seconds_of_one_core():
    case = find_cases(os.environ["BRATS_DIR"])[0]
    load = LoadCased()
    seconds = []
    for _ in range(3):
        start = time.process_time()
        data = load(case)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 2
    assert data["image"].shape == (4, 240, 240, 155)
    np.testing.assert_array_equal(data["image"][1].numpy(), nib.load(case["t1ce"]).get_fdata())
    np.testing.assert_array_equal(data["label"][0].numpy(), nib.load(case["label"]).get_fdata())
