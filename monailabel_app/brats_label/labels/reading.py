"""Detect the format of a label file, and read NIfTI, NRRD or raw voxels onto the grid of the image."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from brats_clip.errors import LabelError
from brats_clip.geometry import TOLERANCE_MM, Grid, find_placement, place
from brats_clip.images import open_image, read_header

from ..errors import Refused

NIFTI, NRRD, DICOM, RAW = "NIfTI", "NRRD", "DICOM", "raw"
EXTENSIONS = {".nii.gz": NIFTI, ".nii": NIFTI, ".nrrd": NRRD, ".dcm": DICOM, ".bin": RAW}
ACCEPTED = "a NIfTI image (.nii.gz, .nii), a Slicer segmentation (.seg.nrrd, .nrrd) or a DICOM SEG (.dcm)"

_ROUNDING = 1e-3  # tools that rescale intensities write 4.0000457 for 4
_MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"PK\x03\x04": "a ZIP archive",
    b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 file",
}


def kind_by_name(path: Path) -> str:
    """Return ``NIFTI``, ``NRRD``, ``DICOM`` or ``RAW`` by the file extension; "" for any other."""
    name = path.name.lower()
    return next((kind for end, kind in EXTENSIONS.items() if name.endswith(end)), "")


def detect_format(path: Path) -> tuple[str, str]:
    """Detect the format of a file by its content: ``NIFTI``, ``NRRD``, ``DICOM`` or "", and a description in words.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:2] == b"\x1f\x8b":
        head = _unpack(head)
        kind, words = _detect_format(head)
        return kind, f"gzip-packed: {words}" if head else "a gzip file that holds nothing readable"
    return _detect_format(head)


def _detect_format(head: bytes) -> tuple[str, str]:
    if not head:
        return "", "an empty file"
    if any(kind.header_class.may_contain_header(head) for kind in (nib.Nifti1Image, nib.Nifti2Image)):
        return NIFTI, "a NIfTI image"
    if head.startswith(b"NRRD000"):
        return NRRD, "an NRRD image"
    if head[128:132] == b"DICM":
        return DICOM, "a DICOM file"
    for magic, words in _MAGIC.items():
        if head.startswith(magic):
            return "", words
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")) or b"<html" in start[:1024]:
        return "", "an HTML page, such as a server's error page"
    if start.startswith(b"<"):
        return "", "XML"
    if start.startswith((b"{", b"[")):
        return "", "JSON"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "", "plain text"
    return "", "binary data of no known format"


def _unpack(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 1024)  # stop before the checksum, which may be wrong
    except zlib.error:
        return b""


MAX_LAYERS = 16


@dataclass(frozen=True)
class Segment:
    """The name of the voxels with ``value`` in one layer."""

    name: str
    layer: int
    value: int


@dataclass(frozen=True)
class Drawing:
    """A label as it was drawn.

    Attributes:
        layers: ``(X, Y, Z, L)`` uint16 on the grid of the image.
        segments: names of layers and values, if the file has any.
    """

    layers: np.ndarray
    segments: tuple[Segment, ...] = ()


def read_image(path: Path, grid: Grid) -> Drawing:
    """Read NIfTI, or NRRD with the segments of 3D Slicer: 3D, or with up to ``MAX_LAYERS`` layers.

    Axes in another order or direction are permuted or flipped. A file that names its segments may cover only a box of
    the image's voxels, as Slicer saves it. No more is decompressed than a label on ``grid`` can hold.

    Raises:
        Refused: if the file is damaged or not a label map, or its voxels do not coincide with those of ``grid``.
    """
    try:
        header = read_header(path, LabelError)
        layers = header.channels
        if layers > MAX_LAYERS:
            shape = " x ".join(map(str, header.shape))
            raise Refused(f"The label has shape {shape}; expected a 3D label map, or up to {MAX_LAYERS} layers.")
        segments = _slicer_segments(header.fields, layers)
        placement = find_placement(header.grid, grid)
        covers = placement is not None and all(
            part == slice(0, size) for part, size in zip(placement.target, grid.shape, strict=True)
        )
        if placement is None or not placement.complete or not (covers or segments):
            raise Refused(
                f"The label lies on another grid than the image it was submitted for: found {header.grid}; expected "
                f"{grid} (within {TOLERANCE_MM} mm). Export it with that image as reference."
            )
        image = open_image(path, LabelError, math.prod(grid.shape) * MAX_LAYERS, strict=True)
        voxels = np.asanyarray(image.dataobj).reshape((*header.grid.shape, layers), order="A")
    except LabelError as reason:
        raise Refused(f"The label file: found {reason.found}; expected {reason.expected}.") from reason
    placed = place(np.moveaxis(_whole(voxels), -1, 0), placement, grid.shape)
    return Drawing(np.moveaxis(placed, 0, -1), segments)


def read_raw(path: Path, grid: Grid) -> Drawing:
    """Read raw bytes, one per voxel of the displayed image, the first axis fastest, as OHIF submits them.

    Raises:
        Refused: if the numbers of bytes and of voxels differ.
    """
    expected, found = math.prod(grid.shape), path.stat().st_size
    if found != expected:
        seems = detect_format(path)[1]
        hint = "" if seems.startswith("binary") else f", which looks like {seems},"
        raise Refused(
            f"The raw label{hint} has {found:,} bytes; expected {expected:,}, one for each voxel of the displayed "
            f"image ({' x '.join(map(str, grid.shape))})."
        )
    return Drawing(_whole(np.fromfile(path, np.uint8).reshape((*grid.shape, 1), order="F")))


def _whole(voxels: np.ndarray) -> np.ndarray:
    """Convert to uint16; refuse values that are not whole numbers or are out of range."""
    if voxels.dtype.kind == "f":
        bad = int(np.count_nonzero(~np.isfinite(voxels)))
        if bad:
            raise Refused(f"The label has {bad:,} voxels that are NaN or infinite; expected whole numbers.")
        off = np.abs(voxels - np.rint(voxels)) > _ROUNDING
        if off.any():
            raise Refused(
                f"The label has {int(off.sum()):,} voxels such as {float(voxels[off][0]):.4g}, which are no whole "
                "numbers; expected a label map, not probabilities or an interpolated one."
            )
        voxels = np.rint(voxels)
    lowest, highest = float(voxels.min()), float(voxels.max())
    if lowest < 0 or highest > np.iinfo(np.uint16).max:
        raise Refused(f"The label has values from {lowest:g} to {highest:g}; expected label values such as 0, 1, 2, 4.")
    return voxels.astype(np.uint16)


def _slicer_segments(header: Mapping[str, str], layers: int) -> tuple[Segment, ...]:
    found = []
    for number in sorted(int(m[1]) for key in header if (m := re.fullmatch(r"Segment(\d+)_Name", key))):
        # Slicer before 4.11 wrote neither key: each segment has its own layer, with the value 1.
        layer = header.get(f"Segment{number}_Layer", str(number if layers > 1 else 0))
        value = header.get(f"Segment{number}_LabelValue", "1")
        if not (layer.isdecimal() and value.isdecimal() and int(layer) < layers):
            raise Refused(f"The header of the segmentation puts segment {number} in layer {layer}; it has {layers}.")
        found.append(Segment(header[f"Segment{number}_Name"], int(layer), int(value)))
    return tuple(found)
