"""Result files keep the geometry of the image in every format, also for an oblique image."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from brats_label.errors import ClientError
from brats_label.inference.answers import EXTENSIONS, write_result

SPACING = (0.9, 1.1, 5.0)


def tilted(mirrored: bool) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix() @ np.diag(SPACING)
    if mirrored:
        affine[:3, 0] *= -1
    affine[:3, 3] = (12.5, -80.25, 33.0)
    return affine


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).choice([0, 1, 2, 4], (5, 7, 4)).astype(np.uint8)


@pytest.fixture(params=[False, True], ids=["right-handed", "left-handed"])
def label(request, array):
    return nib.Nifti1Image(array, tilted(request.param))


def test_nifti_result_round_trips(label, array):
    for extension in (".nii", ".nii.gz"):
        path = write_result(label, extension)
        read = nib.load(path)
        np.testing.assert_array_equal(np.asarray(read.dataobj), array)
        np.testing.assert_allclose(read.affine, label.affine, atol=1e-5)
        assert read.get_data_dtype() == np.uint8
        path.unlink()


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("compress", [True, False])
def test_result_keeps_voxel_positions_in_every_format(label, array, extension, compress):
    path = write_result(label, extension, compress)
    read = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(read).transpose(2, 1, 0), array)
    for voxel in ((0, 0, 0), (4, 0, 0), (0, 6, 0), (0, 0, 3), (4, 6, 3)):
        ras = (label.affine @ [*voxel, 1])[:3]
        np.testing.assert_allclose(read.TransformIndexToPhysicalPoint(voxel), ras * [-1, -1, 1], atol=1e-3)
    path.unlink()


def test_nrrd_is_compressed_only_on_request(label):
    for compress, encoding in ((False, b"encoding: raw"), (True, b"encoding: gzip")):
        path = write_result(label, ".nrrd", compress)
        assert encoding in path.read_bytes()[:1000]
        path.unlink()


def test_unknown_extension_is_refused_with_the_known_ones(label):
    with pytest.raises(ClientError, match=r"\.nii\.gz, \.nii, \.nrrd") as refused:
        write_result(label, ".mha")
    assert refused.value.status == 400
