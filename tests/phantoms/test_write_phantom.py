"""Phantoms on disk: the BraTS layout, written atomically."""

from __future__ import annotations

import json
from itertools import pairwise

import nibabel as nib
import numpy as np
import pytest

from brats_clip.cases import find_cases
from brats_clip.labels import REGIONS
from brats_clip.phantoms import write_phantom, writer
from brats_clip.phantoms.writer import to_grid
from brats_clip.reports import Findings, read_findings
from brats_clip.transforms import LoadCased

FINER = (1 - 1e-9,) * 3  # practically 1 mm, but resampled instead of copied


def world_centre(image: nib.Nifti1Image, value: int) -> np.ndarray:
    """Return the mean position in RAS mm of the voxels of ``value``."""
    voxels = np.argwhere(np.asarray(image.dataobj) == value)
    return nib.affines.apply_affine(image.affine, voxels.mean(axis=0))


def two_blocks(shape=(41, 46, 37)) -> np.ndarray:
    volume = np.zeros(shape, np.uint8)
    volume[4:12, 6:14, 5:13], volume[26:34, 30:38, 21:29] = 1, 4
    return volume


@pytest.mark.parametrize("spacing", [(1, 1, 1), FINER, (2, 2, 2), (1.5, 1, 3), (0.7, 0.7, 0.7)])
@pytest.mark.parametrize("size", [(60, 66, 50), (61, 67, 51)])
def test_to_grid_keeps_directions_and_distances(size, spacing):
    volume = two_blocks()
    size = [int(np.ceil(n / s)) for n, s in zip(size, spacing, strict=True)]
    image = to_grid(volume, np.eye(4), size, spacing, order=0)
    assert image.shape == tuple(size) and nib.aff2axcodes(image.affine) == ("L", "P", "S")
    np.testing.assert_allclose(nib.affines.voxel_sizes(image.affine), spacing)
    moved = world_centre(image, 4) - world_centre(image, 1)
    np.testing.assert_allclose(moved, (22, 24, 16), atol=max(spacing))
    middle = nib.affines.apply_affine(image.affine, (np.array(size) - 1) / 2)
    wanted = middle + world_centre(nib.Nifti1Image(volume, np.eye(4)), 4) - (np.array(volume.shape) - 1) / 2
    np.testing.assert_allclose(world_centre(image, 4), wanted, atol=1 + max(spacing))


@pytest.mark.parametrize("size", [(60, 66, 50), (61, 67, 51), (30, 40, 20), (41, 46, 37)])
def test_copied_and_resampled_grids_agree(size):
    volume = two_blocks()
    copied = to_grid(volume, np.eye(4), size, (1, 1, 1), order=0)
    resampled = to_grid(volume, np.eye(4), size, FINER, order=0)
    np.testing.assert_array_equal(np.asarray(copied.dataobj), np.asarray(resampled.dataobj))
    np.testing.assert_allclose(copied.affine, resampled.affine, atol=1e-6)


def test_grid_smaller_than_the_head_keeps_its_middle():
    volume = np.arange(9 * 11 * 13, dtype=np.int16).reshape(9, 11, 13)
    out = np.asarray(to_grid(volume, np.eye(4), (5, 5, 5), (1, 1, 1), order=0).dataobj)
    np.testing.assert_array_equal(out, volume[2:7, 3:8, 4:9][::-1, ::-1])


@pytest.mark.parametrize("spacing", [(2, 2, 2), (1, 1, 5), (0.8, 0.9, 1.1)])
def test_resampled_labels_keep_their_values(small, spacing):
    size = [int(np.ceil(50 / s)) for s in spacing]
    label = np.asarray(to_grid(small.label, small.affine, size, spacing, order=0).dataobj)
    assert set(np.unique(label)) == {0, 1, 2, 4}


def test_tumour_keeps_its_volume_at_2_mm(patient):
    image = to_grid(patient.label, patient.affine, (96, 96, 80), (2, 2, 2), order=0)
    coarse = np.asarray(image.dataobj)
    for region, values in REGIONS.items():
        fine_ml, coarse_ml = np.isin(patient.label, values).sum() / 1000, np.isin(coarse, values).sum() * 8 / 1000
        assert coarse_ml == pytest.approx(fine_ml, rel=0.03), region


def test_writes_the_layout_of_brats(tmp_path, small):
    folder = write_phantom(small, tmp_path, "P_1", size=(50, 60, 48))
    assert folder == tmp_path / "P_1" and [p.name for p in tmp_path.iterdir()] == ["P_1"]
    names = ("t1.nii.gz", "t1ce.nii.gz", "t2.nii.gz", "flair.nii.gz", "seg.nii.gz", "report.txt", "findings.json")
    assert {p.name for p in folder.iterdir()} == {f"P_1_{name}" for name in names}
    images = [nib.load(folder / f"P_1_{name}") for name in names[:5]]
    for one, other in pairwise(images):
        assert one.shape == other.shape == (50, 60, 48)
        np.testing.assert_array_equal(one.affine, other.affine)
    assert [i.get_data_dtype() for i in images] == [np.int16] * 4 + [np.uint8]
    assert images[0].header.get_xyzt_units() == ("mm", "sec")
    assert Findings.from_dict(json.loads((folder / "P_1_findings.json").read_text())) == small.findings
    assert (folder / "P_1_report.txt").read_text() == "A lesion on the right.\n"


def test_default_grid_is_that_of_brats(tmp_path, small):
    image = nib.load(write_phantom(small, tmp_path, "P") / "P_seg.nii.gz")
    assert image.shape == (240, 240, 155)
    np.testing.assert_array_equal(image.affine, [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert (np.asarray(image.dataobj) > 0).sum() == (small.label > 0).sum()


@pytest.mark.parametrize("spacing", [(1, 1, 1), (2, 2, 2)])
def test_written_patient_loads_as_a_case(tmp_path, small, spacing):
    write_phantom(small, tmp_path, "P_1", size=(48, 52, 44), spacing=spacing)
    (tmp_path / ".P_2.abc" / "P_2").mkdir(parents=True)  # left behind by a killed process
    (tmp_path / ".P_2.abc" / "P_2" / "P_2_t1.nii.gz").touch()
    (case,) = find_cases(tmp_path)
    data = LoadCased(allow_missing_label=False)(case)
    assert data["report"] == small.report and read_findings(data["report"])["side"] == "right"
    assert data["image"].shape == (4, 48, 52, 44) and data["image"].max() > 1000
    assert (data["image"][0] > 0).sum() * np.prod(spacing) == pytest.approx(small.brain.sum(), rel=0.15)
    assert data["label"].unique().tolist() == [0, 1, 2, 4]


def test_intensities_are_scaled_to_int16(tmp_path, small):
    small.image[0] *= 100  # beyond the range of int16
    folder = write_phantom(small, tmp_path, "P", size=small.label.shape)
    t2 = np.asarray(nib.load(folder / "P_t2.nii.gz").dataobj)[::-1, ::-1]
    np.testing.assert_array_equal(t2, np.rint(small.image[2] * 1000))
    t1 = np.asarray(nib.load(folder / "P_t1.nii.gz").dataobj)
    assert t1.min() == 0 and t1.max() == 32767


@pytest.mark.parametrize("existing", [False, True])
def test_failed_write_leaves_no_partial_case(tmp_path, small, monkeypatch, existing):
    folder = tmp_path / "P"
    if existing:
        write_phantom(small, tmp_path, "P", size=(20, 20, 20))
    before = {p.name: p.read_bytes() for p in folder.iterdir()} if existing else None
    save = nib.save

    def full_disk(image, path):
        if "flair" in path.name:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(image, path)

    monkeypatch.setattr(writer.nib, "save", full_disk)
    with pytest.raises(OSError, match="space"):
        write_phantom(small, tmp_path, "P", size=(20, 20, 20))
    assert [p.name for p in tmp_path.iterdir()] == (["P"] if existing else [])
    if existing:
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_writing_again_replaces_the_patient(tmp_path, small):
    write_phantom(small, tmp_path, "P", size=(20, 20, 20))
    (tmp_path / "P" / "P_t1_old.nii.gz").touch()
    write_phantom(small, tmp_path, "P", size=(24, 24, 24))
    assert nib.load(tmp_path / "P" / "P_t1.nii.gz").shape == (24, 24, 24)
    assert not (tmp_path / "P" / "P_t1_old.nii.gz").exists()
