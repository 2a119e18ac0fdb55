"""Read the file of a label as it was drawn: NIfTI, NRRD or raw voxels, on the grid of its image."""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from ..cases.grid import Grid
from ..errors import Refused
from .file_kind import look
from .placement import find_placement

MAX_LAYERS = 16
# Header extensions, and what some tools write behind the voxels.
_SLACK = 2**20
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_BROKEN_NIFTI = (ImageFileError, HeaderDataError, WrapStructError, ValueError, OverflowError)


@dataclass(frozen=True)
class Segment:
    """A name that the file itself gives to the voxels with ``value`` in one layer."""

    name: str
    layer: int
    value: int


@dataclass(frozen=True)
class Drawing:
    """A label as it was drawn.

    Attributes:
        layers: ``(X, Y, Z, L)`` uint16 on the grid of the image.
        segments: what the file says about them; empty if it says nothing.
    """

    layers: np.ndarray
    segments: tuple[Segment, ...] = ()


def read_nifti(path: Path, grid: Grid) -> Drawing:
    """Read ``.nii`` or ``.nii.gz``, 3D or with up to ``MAX_LAYERS`` layers.

    No more is unpacked than a label on ``grid`` can hold, and the file is read to its end: a gzip whose checksum does
    not fit is found out.

    Raises:
        Refused: if it is damaged, no label map, or on another grid.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            start = file.read(540)
            kind = nib.Nifti1Image if nib.Nifti1Header.may_contain_header(start) else nib.Nifti2Image
            header = kind.header_class(start[: kind.header_class.template_dtype.itemsize], check=True)
            layers = _count_layers(header.get_data_shape())
            if header.get_data_dtype().kind not in "iuf":
                raise Refused(
                    f"The label has voxels of type {header.get_data_dtype()}; expected whole numbers, one per voxel."
                )
            placement = find_placement(Grid(header.get_data_shape()[:3], header.get_best_affine()), grid)
            most = int(np.prod(grid.shape)) * layers * header.get_data_dtype().itemsize + _SLACK
            data = start + file.read(most)
            if file.read(1):
                raise Refused(f"The label file goes on after its voxels; expected about {most:,} bytes at most.")
        voxels = np.asanyarray(kind.from_bytes(data).dataobj)
    except (EOFError, zlib.error, gzip.BadGzipFile) as reason:
        raise Refused(
            f"The label file is a gzip file that is truncated or damaged ({_one_line(reason)}); expected a complete "
            "one. Was the upload cut off?"
        ) from reason
    except OSError as reason:  # nibabel says so for voxels that are not there
        raise Refused(
            f"The label file is truncated ({_one_line(reason)}); expected a complete NIfTI image."
        ) from reason
    except _BROKEN_NIFTI as reason:
        raise Refused(f"The label file has a damaged NIfTI header ({_one_line(reason)}).") from reason
    return Drawing(placement.apply(_whole(voxels.reshape((*voxels.shape[:3], layers), order="A"))))


def read_nrrd(path: Path, grid: Grid) -> Drawing:
    """Read ``.nrrd``, or ``.seg.nrrd`` of Slicer with the names of its segments.

    Raises:
        Refused: if it is damaged, no label map, on another grid, or points to voxels in another file.
    """
    with path.open("rb") as file:
        head = file.read(2**20).split(b"\n\n")[0].split(b"\r\n\r\n")[0]
    if re.search(rb"^\s*data ?file\s*:", head, re.IGNORECASE | re.MULTILINE):
        raise Refused("The NRRD file has its voxels in another file; expected one file with header and voxels.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO")
    try:
        reader.ReadImageInformation()
        layers = _count_layers((*reader.GetSize(), reader.GetNumberOfComponents()))
        segments = _slicer_segments({key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}, layers)
        size = tuple(int(n) for n in reader.GetSize()[:3])
        drawn = Grid(size, _affine(reader))
        placement = find_placement(drawn, grid, cropped=bool(segments))
        voxels = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as reason:
        raise Refused("The label file is a truncated or damaged NRRD image; expected a complete one.") from reason
    # SimpleITK's arrays run (layer or z, ..., x, component).
    voxels = np.moveaxis(voxels, -1, 0) if reader.GetNumberOfComponents() > 1 else voxels
    voxels = voxels.reshape((layers, *size[::-1])).transpose(3, 2, 1, 0)
    return Drawing(placement.apply(_whole(voxels)), segments)


def read_raw(path: Path, grid: Grid) -> Drawing:
    """Read bytes, one per voxel of the displayed image, the first axis fastest, as OHIF submits them.

    Raises:
        Refused: if there are more or fewer bytes than voxels.
    """
    expected, found = int(np.prod(grid.shape)), path.stat().st_size
    if found != expected:
        seems = look(path)[1]
        hint = "" if seems.startswith("binary") else f", which looks like {seems},"
        raise Refused(
            f"The raw label{hint} has {found:,} bytes; expected {expected:,}, one for each voxel of the displayed "
            f"image ({' x '.join(map(str, grid.shape))})."
        )
    return Drawing(_whole(np.fromfile(path, np.uint8).reshape((*grid.shape, 1), order="F")))


def _count_layers(shape: tuple[int, ...]) -> int:
    layers = int(np.prod(shape[3:], dtype=np.int64))
    if len(shape) < 3 or min(shape) < 1 or min(shape[:3]) < 2 or layers > MAX_LAYERS:
        raise Refused(
            f"The label has shape {' x '.join(map(str, shape))}; expected a 3D label map, or up to {MAX_LAYERS} layers."
        )
    return layers


def _whole(voxels: np.ndarray) -> np.ndarray:
    """As uint16, if that loses nothing."""
    if voxels.dtype.kind == "f":
        bad = int(np.count_nonzero(~np.isfinite(voxels)))
        if bad:
            raise Refused(f"The label has {bad:,} voxels that are NaN or infinite; expected whole numbers.")
        bad = int(np.count_nonzero(voxels != np.rint(voxels)))
        if bad:
            raise Refused(
                f"The label has {bad:,} voxels such as {float(voxels[voxels != np.rint(voxels)][0]):.4g}, which are no "
                "whole numbers; expected a label map, not probabilities or an interpolated one."
            )
    lowest, highest = float(voxels.min()), float(voxels.max())
    if lowest < 0 or highest > np.iinfo(np.uint16).max:
        raise Refused(f"The label has values from {lowest:g} to {highest:g}; expected label values such as 0, 1, 2, 4.")
    return voxels.astype(np.uint16)


def _affine(reader: sitk.ImageFileReader) -> np.ndarray:
    count = reader.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (count, count))[:3, :3] * reader.GetSpacing()[:3]
    affine[:3, 3] = reader.GetOrigin()[:3]
    return _LPS_TO_RAS @ affine


def _slicer_segments(header: dict[str, str], layers: int) -> tuple[Segment, ...]:
    found = []
    for number in sorted(int(m[1]) for key in header if (m := re.fullmatch(r"Segment(\d+)_Name", key))):
        # Slicer before 4.11 wrote neither: one layer for each segment, with the value 1.
        layer = header.get(f"Segment{number}_Layer", str(number if layers > 1 else 0))
        value = header.get(f"Segment{number}_LabelValue", "1")
        if not (layer.isdecimal() and value.isdecimal() and int(layer) < layers):
            raise Refused(f"The header of the segmentation puts segment {number} in layer {layer}; it has {layers}.")
        found.append(Segment(header[f"Segment{number}_Name"], int(layer), int(value)))
    return tuple(found)


def _one_line(reason: BaseException) -> str:
    return " ".join(str(reason).split()) or type(reason).__name__
