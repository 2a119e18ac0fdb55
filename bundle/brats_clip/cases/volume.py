"""Read one NIfTI file of a case, with errors that say what is wrong with it."""

from __future__ import annotations

import gzip
import itertools
import zlib
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from ..errors import CaseError, InputError
from .naming import split_channel

# Far below a voxel, far above the rounding of a header's float32 quaternion over 240 mm.
GRID_TOLERANCE_MM = 0.01

_UNREADABLE = (ImageFileError, HeaderDataError, WrapStructError, OSError, ValueError, OverflowError, MemoryError)


class Volume(NamedTuple):
    """A 3D array ``(X, Y, Z)``, ``affine`` (4, 4) from voxel to mm in RAS, and the file it came from."""

    array: np.ndarray
    affine: np.ndarray
    path: str


def read_volume(
    source: str | PathLike,
    error: type[InputError] = CaseError,
    opened: dict[str, nib.Nifti1Image] | None = None,
) -> Volume:
    """Read a 3D NIfTI file, or one channel of a 4D one (``path#channel``), scaled by its scl_slope, as float32.

    The file is unpacked to its end: a gzip whose checksum does not fit is found out, too.

    Args:
        source: ``.nii`` or ``.nii.gz``.
        error: class of the error to raise.
        opened: files read before, by path; filled, so that a 4D file is unpacked once for its four channels.

    Raises:
        InputError: (of class ``error``) if the file is missing, truncated, damaged, not NIfTI or not 3D.
    """
    path, channel = split_channel(source)
    image = opened.get(path) if opened else None
    if image is None:
        image = _open(path, error)
        if opened is not None and channel is not None:
            opened[path] = image
    shape = _check_shape(image.shape, channel, path, error)
    affine = np.asarray(image.affine, np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise error(path, f"the affine {np.round(affine[:3], 3).tolist()}", "a grid of voxels in mm")
    if image.get_data_dtype().kind not in "iuf":
        raise error(path, f"voxels of type {image.get_data_dtype()}", "whole or real numbers")
    try:
        if channel is None:
            array = image.get_fdata(dtype=np.float32, caching="unchanged")
        else:
            array = np.asarray(image.dataobj[..., channel]).astype(np.float32, copy=False)
    except _UNREADABLE as reason:
        raise error(path, f"a truncated or damaged image ({_one_line(reason)})", "a complete NIfTI file") from reason
    return Volume(array.reshape(shape, order="A"), affine, path)


def check_intensities(volume: Volume) -> None:
    """Raise ``CaseError`` unless the volume is finite and has more than one value."""
    lowest, highest = volume.array.min(), volume.array.max()  # a NaN anywhere makes both NaN
    if not np.isfinite(lowest) or not np.isfinite(highest):
        bad = int((~np.isfinite(volume.array)).sum())
        raise CaseError(volume.path, f"{bad} of {volume.array.size} voxels NaN or infinite", "finite values")
    if lowest == highest:
        raise CaseError(volume.path, f"the value {lowest:g} in every voxel", "an image with contrast")


def check_same_grid(volume: Volume, reference: Volume, error: type[InputError] = CaseError) -> None:
    """Raise ``error`` unless both volumes have one shape and their corners lie within ``GRID_TOLERANCE_MM``."""
    name = Path(reference.path).name
    if volume.array.shape != reference.array.shape:
        shape, wanted = (" x ".join(map(str, v.array.shape)) for v in (volume, reference))
        raise error(volume.path, f"a grid of {shape} voxels", f"{wanted}, that of {name}")
    corners = np.array([(*c, 1) for c in itertools.product(*((0, size - 1) for size in volume.array.shape))])
    distance = np.linalg.norm(corners @ (volume.affine - reference.affine).T, axis=1).max()
    if distance > GRID_TOLERANCE_MM:
        raise error(
            volume.path,
            f"a grid up to {distance:.3g} mm away from that of {name}",
            f"one grid for all files of a case (within {GRID_TOLERANCE_MM} mm)",
        )


def _open(path: str, error: type[InputError]) -> nib.Nifti1Image:
    expected = "a complete NIfTI file (.nii or .nii.gz)"
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":  # by content: some tools write .nii.gz files that are not packed
            data = gzip.decompress(data)
    except FileNotFoundError as reason:
        raise error(path, "no file", expected) from reason
    except (EOFError, zlib.error, gzip.BadGzipFile) as reason:
        raise error(path, f"a truncated or damaged gzip file ({_one_line(reason)})", expected) from reason
    except OSError as reason:
        raise error(path, f"a file that cannot be read ({reason.strerror or reason})", expected) from reason
    if not data:
        raise error(path, "an empty file", expected)
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        if kind.header_class.may_contain_header(data):
            try:
                return kind.from_bytes(data)
            except _UNREADABLE as reason:
                raise error(path, f"a damaged header ({_one_line(reason)})", expected) from reason
    raise error(path, "a file without a NIfTI header", expected)


def _check_shape(
    shape: tuple[int, ...], channel: int | None, path: str, error: type[InputError]
) -> tuple[int, int, int]:
    """Return the 3D shape of the volume asked for."""
    found = f"an image of shape {' x '.join(map(str, shape))}"
    if channel is not None:
        if len(shape) != 4 or channel >= shape[3]:
            raise error(path, found, f"a 4D image with a channel {channel}")
        shape = shape[:3]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise error(path, found, "a 3D image (a channel of a 4D file is written path#0, path#1, ...)")
    if len(shape) < 3 or min(shape) < 2:
        raise error(path, found, "a 3D image")
    return shape


def _one_line(reason: BaseException) -> str:
    return " ".join(str(reason).split()) or type(reason).__name__
