"""Read NIfTI and NRRD images, and write files atomically.

The first bytes of a file decide its format, not its name: a ``.nii.gz`` may be uncompressed, a ``.nii`` compressed. No
more voxels are read than the header announces, and never more than ``MAX_VOXELS``. A gzip stream is read to its end, so
that a wrong checksum is detected; extra bytes after the stream or after the voxels are ignored.

- ``read_header``: grid, channels and dtype, without the voxels.
- ``open_image``: a nibabel image with all voxels in memory, as stored: labels, 4D files.
- ``read_volume``: one 3D volume as scaled float32: sequences.
- ``write_image``, ``atomic_write``.
"""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import BinaryIO, NamedTuple
from uuid import uuid4

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from .errors import CaseError, InputError
from .geometry import Grid

# 1 GiB as float32, about seven times a BraTS case in one 4D file.
MAX_VOXELS = 2**28

_EXPECTED = "a complete NIfTI or NRRD file"
_LONGEST_HEADER = 540  # bytes, of NIfTI-2
_SLACK = 2**20  # header extensions, and data that some tools write after the voxels
_GZIP, _NRRD = b"\x1f\x8b", b"NRRD"
_CHANNEL = re.compile(r"(?P<path>.+\.nii(?:\.gz)?)#(?P<channel>\d+)", re.IGNORECASE)
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_UNREADABLE = (ImageFileError, HeaderDataError, WrapStructError, OSError, ValueError, OverflowError, MemoryError)


class Volume(NamedTuple):
    """A 3D array ``(X, Y, Z)``, ``affine`` ``(4, 4)`` from voxel to mm in RAS, and the file it came from."""

    array: np.ndarray
    affine: np.ndarray
    path: str

    @property
    def grid(self) -> Grid:
        """The grid of the voxels."""
        return Grid(self.array.shape, self.affine)


@dataclass(frozen=True, eq=False)
class Header:
    """The header of an image file.

    Attributes:
        grid: of the first three axes.
        shape: all axes except trailing axes of length 1 after the third; the components of an NRRD come last.
        dtype: as stored.
        whole: whether the voxels are stored as integers without scaling.
        fields: header fields of an NRRD, such as the segments of 3D Slicer; empty for NIfTI.
        nifti: the NIfTI header; None for an NRRD.
    """

    grid: Grid
    shape: tuple[int, ...]
    dtype: np.dtype
    whole: bool
    fields: Mapping[str, str] = field(default_factory=dict)
    nifti: nib.Nifti1Header | None = None

    @property
    def affine(self) -> np.ndarray:
        """``(4, 4)``, voxel to RAS mm."""
        return self.grid.affine

    @property
    def channels(self) -> int:
        """Number of channels: 1 for a 3D file. ITK stores the components of a vector image along the fifth axis."""
        return math.prod(self.shape[3:])


def split_channel(source: str | PathLike) -> tuple[str, int | None]:
    """Split ``"imagesTr/BRATS_001.nii.gz#0"``, one channel of a 4D file, into path and channel (None for a 3D file)."""
    match = _CHANNEL.fullmatch(str(source))
    return (match["path"], int(match["channel"])) if match else (str(source), None)


def read_header(path: str | PathLike, error: type[InputError] = CaseError) -> Header:
    """Read the header of a file, without the voxels.

    Raises:
        InputError: (of class ``error``) if the file is missing, cannot be opened, is neither NIfTI nor NRRD, has fewer
            than three axes, or has an invalid affine.
    """
    with _opened(path, error) as file:
        if file.peek(4)[:4] == _NRRD:
            return _nrrd_header(path, error)[1]
        return _nifti_header(_Stream(file).read(_LONGEST_HEADER), path, error)[1]


def open_image(
    path: str | PathLike, error: type[InputError] = CaseError, max_voxels: int = MAX_VOXELS, strict: bool = False
) -> nib.Nifti1Image | nib.Nifti2Image:
    """Read a file with three axes or more, with all voxels in memory.

    Args:
        error: class of the error to raise.
        max_voxels: limit for all channels together; a file whose header announces more is rejected unread.
        strict: reject a file with a MiB or more of data after its voxels, since its checksum would not be verified.

    Returns:
        A nibabel image: ``dataobj`` as stored, scaled if the header says so. An NRRD is converted, ``(X, Y, Z)`` or
        ``(X, Y, Z, C)``, with its header fields in ``extra``.

    Raises:
        InputError: as ``read_header``, or if the file is truncated, damaged, too large, or not of integers or floats.
    """
    with _opened(path, error) as file:
        if file.peek(4)[:4] == _NRRD:
            return _open_nrrd(path, error, max_voxels)
        stream = _Stream(file)
        start = stream.read(_LONGEST_HEADER)
        kind, header, end = _nifti_header(start, path, error)
        _check_voxels(header, max_voxels, path, error)
        data = start + stream.read(end - len(start))
        if len(data) < end:
            found = f"a truncated or damaged image (it ends after {len(data):,} of {end:,} bytes)"
            raise error(path, found, _EXPECTED)
        rest = stream.read(_SLACK)  # to the end of the stream, where the checksum is
        if strict and len(rest) == _SLACK:
            raise error(path, "a file that goes on after its voxels", _EXPECTED)
    try:
        return kind.from_bytes(data)
    except _UNREADABLE as reason:
        raise error(path, f"a damaged header ({_one_line(reason)})", _EXPECTED) from reason


def read_volume(
    source: str | PathLike,
    error: type[InputError] = CaseError,
    opened: dict[str, nib.Nifti1Image] | None = None,
) -> Volume:
    """Read a 3D file, or one channel of a 4D file (``path#channel``), as float32, scaled as its header says.

    Args:
        source: NIfTI or NRRD.
        error: class of the error to raise.
        opened: cache of 4D files by path, filled here, so that a file is decompressed once for its four channels.

    Raises:
        InputError: (of class ``error``) as ``open_image``, or if the file is not 3D or has no such channel.
    """
    path, channel = split_channel(source)
    image = opened.get(path) if opened else None
    if image is None:
        image = open_image(path, error)
        if opened is not None and channel is not None:
            opened[path] = image
    shape = _shape_3d(image.shape, channel, path, error)
    try:
        if channel is None:
            array = image.get_fdata(dtype=np.float32, caching="unchanged")
        else:
            array = np.asarray(image.dataobj[..., channel]).astype(np.float32, copy=False)
    except _UNREADABLE as reason:
        raise error(path, f"a truncated or damaged image ({_one_line(reason)})", _EXPECTED) from reason
    return Volume(array.reshape(shape, order="A"), np.asarray(image.affine, np.float64), path)


def check_intensities(volume: Volume) -> None:
    """Raise ``CaseError`` unless the volume is finite and has more than one value."""
    lowest, highest = volume.array.min(), volume.array.max()  # a NaN anywhere makes both NaN
    if not np.isfinite(lowest) or not np.isfinite(highest):
        bad = int((~np.isfinite(volume.array)).sum())
        raise CaseError(volume.path, f"{bad} of {volume.array.size} voxels NaN or infinite", "finite values")
    if lowest == highest:
        raise CaseError(volume.path, f"the value {lowest:g} in every voxel", "an image with contrast")


def write_image(path: str | PathLike, array: np.ndarray, affine: np.ndarray, header: nib.Nifti1Header | None = None):
    """Write a NIfTI file with the dtype of ``array``, atomically.

    Args:
        path: ``.nii`` or ``.nii.gz``; the folder is created if missing.
        array: ``(X, Y, Z)`` or ``(X, Y, Z, C)``.
        affine: ``(4, 4)``, voxel to RAS mm; written as sform and, if it can be expressed, as qform.
        header: source of the codes and units; None for scanner coordinates in mm.
    """
    with atomic_write(path) as draft:
        nib.save(new_image(array, affine, header), draft)


def new_image(array: np.ndarray, affine: np.ndarray, header: nib.Nifti1Header | None = None) -> nib.Nifti1Image:
    """Return the NIfTI image that ``write_image`` writes."""
    image = nib.Nifti1Image(array, affine, header, dtype=array.dtype)
    if header is None:
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
        image.header.set_xyzt_units("mm", "sec")
    return image


@contextmanager
def atomic_write(path: str | PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the block succeeds, delete it if it raises.

    The temporary name keeps the extension, because nibabel and Pillow choose the format by it. The folder is created
    if missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{uuid4().hex}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class _Stream:
    """Reads a file, decompressing it if it is gzip; stops at the end of the last gzip member."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._rest = file, b""
        self._unpack = zlib.decompressobj(31) if file.peek(2)[:2] == _GZIP else None

    def read(self, most: int) -> bytes:
        """Return up to ``most`` bytes, fewer at the end of the file.

        Raises:
            EOFError, zlib.error: if a gzip member is cut off or damaged.
        """
        if self._unpack is None:
            return self._file.read(max(most, 0))
        parts: list[bytes] = []
        while most > 0:
            if self._unpack.eof:
                self._rest = self._unpack.unused_data or self._file.read(_SLACK)
                if not self._rest.startswith(_GZIP):
                    break
                self._unpack = zlib.decompressobj(31)
            self._rest = self._rest or self._file.read(4 * _SLACK)
            if not self._rest:
                raise EOFError("it ends before its end-of-stream marker")
            part = self._unpack.decompress(self._rest, most)
            self._rest = self._unpack.unconsumed_tail
            parts.append(part)
            most -= len(part)
        return b"".join(parts)


@contextmanager
def _opened(path: str | PathLike, error: type[InputError]) -> Iterator[BinaryIO]:
    try:
        with Path(path).open("rb") as file:
            if not file.peek(1):
                raise error(path, "an empty file", _EXPECTED)
            yield file
    except FileNotFoundError as reason:
        raise error(path, "no file", _EXPECTED) from reason
    except (EOFError, zlib.error) as reason:
        raise error(path, f"a truncated or damaged gzip file ({_one_line(reason)})", _EXPECTED) from reason
    except OSError as reason:
        raise error(path, f"a file that cannot be read ({reason.strerror or reason})", _EXPECTED) from reason


def _nifti_header(start: bytes, path: str | PathLike, error: type[InputError]) -> tuple[type, Header, int]:
    """Return the image class, the header, and the offset of the end of the voxels."""
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        if kind.header_class.may_contain_header(start):
            break
    else:
        raise error(path, "a file without a NIfTI header", _EXPECTED)
    try:
        size = kind.header_class.template_dtype.itemsize
        head = kind.header_class(binaryblock=start[:size], check=False)
        shape = tuple(int(n) for n in head.get_data_shape())
        dtype, affine = head.get_data_dtype(), np.asarray(head.get_best_affine(), np.float64)
        whole = dtype.kind in "iu" and head.get_slope_inter() in ((None, None), (1.0, 0.0))
        end = max(int(head.get_data_offset()), size) + math.prod(shape) * dtype.itemsize
    except (*_UNREADABLE, KeyError) as reason:
        raise error(path, f"a damaged header ({_one_line(reason)})", _EXPECTED) from reason
    return kind, _checked(Header(Grid(_padded(shape), affine), shape, dtype, whole, nifti=head), path, error), end


def _nrrd_header(path: str | PathLike, error: type[InputError]):
    import SimpleITK as sitk  # importing takes 0.2 s, and few files are NRRD

    with Path(path).open("rb") as file:
        head = re.split(rb"\r?\n\r?\n", file.read(_SLACK), maxsplit=1)[0]
    if re.search(rb"^\s*data ?file\s*:", head, re.IGNORECASE | re.MULTILINE):
        raise error(path, "an NRRD header whose voxels lie in another file", "header and voxels in one file")
    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(path))
    reader.SetImageIO("NrrdImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as reason:
        raise error(path, "a damaged NRRD header", _EXPECTED) from reason
    axes, channels = reader.GetDimension(), reader.GetNumberOfComponents()
    shape = (*(int(n) for n in reader.GetSize()), *([channels] if channels > 1 else []))
    affine = np.eye(4)
    affine[:3, :3] = (np.reshape(reader.GetDirection(), (axes, axes)) * reader.GetSpacing())[:3, :3] if axes > 2 else 0
    affine[:3, 3] = (*reader.GetOrigin(), 0)[:3]
    dtype = sitk.GetArrayViewFromImage(sitk.Image([1, 1], reader.GetPixelID())).dtype
    fields = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    header = Header(Grid(_padded(shape), _LPS_TO_RAS @ affine), shape, dtype, dtype.kind in "iu", fields)
    return reader, _checked(header, path, error)


def _open_nrrd(path: str | PathLike, error: type[InputError], max_voxels: int) -> nib.Nifti1Image:
    import SimpleITK as sitk

    reader, header = _nrrd_header(path, error)
    _check_voxels(header, max_voxels, path, error)
    try:
        array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as reason:
        raise error(path, "a truncated or damaged NRRD image", _EXPECTED) from reason
    # SimpleITK's arrays run (..., z, y, x, component).
    if reader.GetNumberOfComponents() > 1:
        array = np.moveaxis(array, -1, 0)
    image = new_image(array.transpose().reshape(header.shape), header.affine)
    image.extra.update(header.fields)
    return image


def _checked(header: Header, path: str | PathLike, error: type[InputError]) -> Header:
    shape = header.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) < 3 or min(shape[:3]) < 2 or min(shape) < 1:
        raise error(path, f"an image of shape {' x '.join(map(str, shape))}", "a 3D image")
    if not header.grid.valid:
        raise error(path, f"the affine {np.round(header.affine[:3], 3).tolist()}", "a grid of voxels in mm")
    return replace(header, shape=shape)


def _check_voxels(header: Header, most: int, path: str | PathLike, error: type[InputError]) -> None:
    if header.dtype.kind not in "iuf":
        raise error(path, f"voxels of type {header.dtype}", "whole or real numbers")
    if math.prod(header.shape) > most:
        found = f"an image of {' x '.join(map(str, header.shape))} voxels"
        raise error(path, found, f"{most:,} voxels at most")


def _shape_3d(shape: tuple[int, ...], channel: int | None, path: str, error: type[InputError]) -> tuple[int, int, int]:
    found = f"an image of shape {' x '.join(map(str, shape))}"
    if channel is not None:
        if len(shape) != 4 or channel >= shape[3]:
            raise error(path, found, f"a 4D image with a channel {channel}")
        return shape[:3]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise error(path, found, "a 3D image (a channel of a 4D file is written path#0, path#1, ...)")
    return shape


def _padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1, 1, 1)[: max(3, len(shape))]


def _one_line(reason: BaseException) -> str:
    return " ".join(str(reason).split()) or type(reason).__name__
