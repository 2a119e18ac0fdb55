"""Image files: format detection by content, limits on the size read, and detection of damaged files."""

from __future__ import annotations

import gzip
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from brats_clip.errors import CaseError, LabelError
from brats_clip.images import atomic_write, open_image, read_header, read_volume, write_image

AFFINE = np.array([[-0.9, 0.1, 0, 30], [0.1, -0.9, 0, 41], [0, 0, 1.3, -5], [0, 0, 0, 1]])
ARRAY = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def nifti(array=ARRAY, affine=AFFINE) -> bytes:
    return nib.Nifti1Image(array, affine).to_bytes()


def members(data: bytes, size: int = 100) -> bytes:
    """Compress as several gzip members, as bgzip and parallel compressors do."""
    return b"".join(gzip.compress(data[i : i + size]) for i in range(0, len(data), size))


FILES = {
    "packed": ("a.nii.gz", lambda: gzip.compress(nifti())),
    "unpacked": ("a.nii", nifti),
    "unpacked but named .nii.gz": ("a.nii.gz", nifti),
    "packed but named .nii": ("a.nii", lambda: gzip.compress(nifti())),
    "several gzip members": ("a.nii.gz", lambda: members(nifti())),
    "zeros behind the gzip stream": ("a.nii.gz", lambda: gzip.compress(nifti()) + bytes(700)),
    "other bytes behind the gzip stream": ("a.nii.gz", lambda: gzip.compress(nifti()) + b"\r\n--boundary--\r\n"),
    "bytes behind the voxels": ("a.nii", lambda: nifti() + b"signature"),
    "bytes behind the voxels, packed": ("a.nii.gz", lambda: gzip.compress(nifti() + b"signature")),
}


@pytest.mark.parametrize("kind", FILES)
def test_format_is_detected_from_content_not_file_name(tmp_path, kind):
    name, content = FILES[kind]
    (tmp_path / name).write_bytes(content())
    volume = read_volume(tmp_path / name)
    assert np.array_equal(volume.array, ARRAY) and np.allclose(volume.affine, AFFINE)
    header = read_header(tmp_path / name)
    assert header.shape == (4, 5, 6) and header.whole and header.channels == 1
    assert header.grid.same_as(volume.grid)
    assert open_image(tmp_path / name).get_data_dtype() == np.int16


def nrrd(path, array=ARRAY, affine=AFFINE, compress=True):
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), compress)
    return path


@pytest.mark.parametrize("compress", [True, False])
def test_nrrd_is_read_like_nifti(tmp_path, compress):
    path = nrrd(tmp_path / "a.nrrd", compress=compress)
    volume = read_volume(path)
    assert np.array_equal(volume.array, ARRAY) and np.allclose(volume.affine, AFFINE, atol=1e-5)
    assert read_header(path).grid.same_as(volume.grid)
    named_otherwise = path.rename(tmp_path / "a.nii.gz")
    assert np.array_equal(read_volume(named_otherwise).array, ARRAY)


def test_nrrd_components_become_the_last_axis_and_fields_are_kept(tmp_path):
    layers = np.stack([ARRAY, 2 * ARRAY], axis=-1)
    image = sitk.GetImageFromArray(np.ascontiguousarray(layers.transpose(2, 1, 0, 3)), isVector=True)
    image.SetMetaData("Segment0_Name", "ET")
    sitk.WriteImage(image, str(tmp_path / "a.seg.nrrd"), True)
    read = open_image(tmp_path / "a.seg.nrrd")
    assert np.array_equal(read.dataobj, layers) and read.extra["Segment0_Name"] == "ET"
    header = read_header(tmp_path / "a.seg.nrrd")
    assert header.channels == 2 and header.fields["Segment0_Name"] == "ET"


def test_nrrd_with_a_detached_data_file_is_refused(tmp_path):
    (tmp_path / "a.nrrd").write_text(
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 5 6\nencoding: raw\ndata file: /etc/passwd\n\n"
    )
    with pytest.raises(CaseError, match="voxels lie in another file"):
        read_volume(tmp_path / "a.nrrd")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_header_with_too_many_voxels_is_refused_before_reading(tmp_path, name):
    image = nib.Nifti1Image(ARRAY, AFFINE)
    image.header["dim"][1:4] = 30000
    data = bytes(image.header.binaryblock) + bytes(4) + ARRAY.tobytes()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(CaseError, match=r"30000 x 30000 x 30000.*at most"):
        read_volume(tmp_path / name)


def test_decompression_stops_at_the_size_in_the_header(tmp_path):
    pack = zlib.compressobj(9, wbits=31)
    bomb = pack.compress(nifti()) + b"".join(pack.compress(bytes(2**20)) for _ in range(64)) + pack.flush()
    (tmp_path / "a.nii.gz").write_bytes(bomb)
    assert np.array_equal(read_volume(tmp_path / "a.nii.gz").array, ARRAY)
    with pytest.raises(LabelError, match="at most"):
        open_image(tmp_path / "a.nii.gz", LabelError, max_voxels=ARRAY.size - 1)


@pytest.mark.parametrize("cut", [100, 400, 500])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_truncated_file_is_an_error(tmp_path, pack, cut):
    whole = pack(nifti(np.random.default_rng(0).integers(0, 9999, (4, 5, 6), dtype=np.int16)))
    (tmp_path / "a.nii.gz").write_bytes(whole[:cut] if pack is bytes else whole[: len(whole) * cut // 600])
    with pytest.raises(CaseError, match=r"truncated|without a NIfTI header"):
        read_volume(tmp_path / "a.nii.gz")


def test_wrong_gzip_checksum_is_an_error(tmp_path):
    data = bytearray(gzip.compress(nifti()))
    data[-8] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(bytes(data))
    with pytest.raises(CaseError, match="damaged gzip"):
        read_volume(tmp_path / "a.nii.gz")


def test_written_image_is_read_back_and_failed_write_leaves_no_file(tmp_path):
    write_image(tmp_path / "new" / "a.nii.gz", ARRAY.astype(np.uint8), AFFINE)
    volume = read_volume(tmp_path / "new" / "a.nii.gz")
    assert np.array_equal(volume.array, ARRAY) and np.allclose(volume.affine, AFFINE)
    assert read_header(tmp_path / "new" / "a.nii.gz").dtype == np.uint8
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "b.nii.gz") as draft:
        draft.write_bytes(b"half")
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]
