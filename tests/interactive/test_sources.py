"""Every supported input type becomes one volume; any other input is an error that names the supported types."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from brats_clip.cases import Volume
from brats_clip.errors import CaseError
from brats_clip.interactive.sources import as_source, identity_of

AFFINE = np.array([[-1.0, 0, 0, 11], [0, -2.0, 0, 30], [0, 0, 1.5, -7], [0, 0, 0, 1]])
ARRAY = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)


@pytest.mark.parametrize(
    "given",
    [
        nib.Nifti1Image(ARRAY, AFFINE),
        nib.Nifti1Image(ARRAY.astype(np.int16)[..., None], AFFINE),
        MetaTensor(torch.from_numpy(ARRAY), affine=torch.from_numpy(AFFINE)),
        MetaTensor(torch.from_numpy(ARRAY)[None].double(), affine=torch.from_numpy(AFFINE)),
        (ARRAY, AFFINE),
        [ARRAY.astype(np.uint8), AFFINE.tolist()],
        (ARRAY.tolist(), AFFINE),
        (torch.from_numpy(ARRAY), torch.from_numpy(AFFINE)),
    ],
    ids=["nibabel", "nibabel 4D", "MetaTensor", "MetaTensor with channel", "array", "list", "lists", "tensors"],
)
def test_every_input_type_becomes_the_same_volume(given):
    volume = as_source("t1", given)
    assert isinstance(volume, Volume) and volume.array.dtype == np.float32 and volume.affine.dtype == np.float64
    np.testing.assert_array_equal(volume.array, ARRAY)
    np.testing.assert_allclose(volume.affine, AFFINE)
    assert volume.path.startswith("t1")


def test_volumes_in_memory_have_distinct_identities(tmp_path):
    """Otherwise, a second patient would get the answer of the first."""
    first, second = (as_source("t1", Volume(ARRAY + n, AFFINE, "t1")) for n in range(2))
    assert identity_of(first) != identity_of(second)
    nib.save(nib.Nifti1Image(ARRAY, AFFINE), tmp_path / "a.nii")
    read = Volume(ARRAY, AFFINE, str(tmp_path / "a.nii"))
    assert as_source("t1", read) is read and identity_of(read) == identity_of(read.path)


def test_scl_slope_of_an_image_is_applied(tmp_path):
    stored = nib.Nifti1Image(ARRAY.astype(np.int16), AFFINE)
    stored.header.set_slope_inter(0.5, 10)
    nib.save(nib.Nifti1Image(ARRAY * 0.5 + 10, AFFINE, stored.header), tmp_path / "a.nii")
    np.testing.assert_allclose(as_source("t1", nib.load(tmp_path / "a.nii")).array, ARRAY * 0.5 + 10, atol=0.01)


@pytest.mark.parametrize("given", ["a.nii.gz", Path("a.nii.gz")])
def test_path_stays_a_path(given):
    assert as_source("t1", given) == "a.nii.gz"


@pytest.mark.parametrize(
    "given",
    [
        ARRAY,
        torch.from_numpy(ARRAY),
        (ARRAY,),
        (ARRAY, AFFINE, 1),
        5,
        {"array": ARRAY},
        (ARRAY, None),
        (ARRAY, AFFINE[:3]),
        (ARRAY, AFFINE * np.nan),
        (ARRAY, np.zeros((4, 4))),
        (ARRAY, "RAS"),
        (None, AFFINE),
        ("a.nii.gz", "b.nii.gz"),
        (ARRAY[0], AFFINE),
        (np.stack([ARRAY] * 3), AFFINE),
        (ARRAY[:1], AFFINE),
        ([[1, 2], [3]], AFFINE),
        (ARRAY, [[1, 2], [3]]),
        (torch.from_numpy(ARRAY.copy()).requires_grad_(), np.zeros((2, 2))),
        nib.Nifti1Image(np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")]), AFFINE),
    ],
    ids=lambda given: f"{type(given).__name__}",
)
def test_unsupported_input_is_an_error(given):
    with pytest.raises(CaseError) as error:
        as_source("flair", given)
    assert "flair" in str(error.value) and "found" in str(error.value) and len(str(error.value)) < 400


def test_damaged_file_behind_a_lazy_image_is_an_error(tmp_path):
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((20, 20, 20)), AFFINE), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CaseError, match="t2"):
        as_source("t2", nib.load(path))


def test_file_identity_changes_when_it_is_rewritten(tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(b"one")
    first = identity_of(str(path))
    assert identity_of(str(path)) == first and identity_of(f"{tmp_path}/../{tmp_path.name}/a.nii") == first
    assert identity_of(f"{path}#1") != identity_of(f"{path}#2")
    path.write_bytes(b"three")
    assert identity_of(str(path)) != first
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    assert identity_of(str(path)) != first


def test_every_array_has_its_own_identity():
    assert identity_of(as_source("t1", (ARRAY, AFFINE))) != identity_of(as_source("t1", (ARRAY, AFFINE)))
