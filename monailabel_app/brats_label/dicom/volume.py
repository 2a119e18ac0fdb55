"""Convert the DICOM files of a series to one volume: order the slices, check that they fill it, write NIfTI."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from ..durable import durable_write
from ..errors import Refused

logger = logging.getLogger(__name__)

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
PARALLEL = 1e-3  # tolerance of direction cosines, which some scanners round to four digits
UNEVEN = 0.1  # tolerance, as a fraction of the distance between slices
UNEVEN_MM = 0.05
STRAYS = 0.2  # of the number of slices in the volume: up to so many others, such as a localiser's, are left out
_TAGS = ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Rows", "Columns", "PixelSpacing", "InstanceNumber"]
_NEEDED = tuple(_TAGS[1:6])
_TAGS += ["ImagePositionPatient", "ImageOrientationPatient", "SliceThickness"]


@dataclass(frozen=True)
class SliceStack:
    """The slices of a series in the order of their positions, as one volume.

    Attributes:
        files: from the first slice to the last.
        sop_uids: SOPInstanceUIDs in the same order.
        affine: (column, row, slice) to RAS mm, as a NIfTI file has it.
        shape: columns, rows, slices.
    """

    files: tuple[Path, ...]
    sop_uids: tuple[str, ...]
    affine: np.ndarray
    shape: tuple[int, int, int]


def stack_slices(files: Iterable[Path], name: str = "Series") -> SliceStack:
    """Order the files of a series and check that they fill a volume evenly.

    A few slices of another orientation or size (a localiser's) are left out, and so is a slice that was sent twice.

    Args:
        files: one slice each.
        name: of the series, for errors.

    Raises:
        Refused: for anything but parallel slices of one size at even distances, each once.
    """
    read = [(path, _header(path, name)) for path in sorted(files)]
    if len(read) < 2:
        raise Refused(f"{name}: found {len(read)} slices; expected a volume.")
    if len({str(ds.SeriesInstanceUID) for _, ds in read}) > 1:
        raise Refused(f"{name}: found files of several series; expected one.")
    read = _without_strays(read, name)
    first = read[0][1]
    across = [float(v) for v in first.ImageOrientationPatient]
    normal = np.cross(across[:3], across[3:])
    for _, ds in read:
        if not np.allclose(np.asarray(ds.ImageOrientationPatient, float), across, atol=PARALLEL):
            raise Refused(f"{name}: found slices that are not parallel; expected one volume.")
        same = (ds.Rows, ds.Columns) == (first.Rows, first.Columns)
        if not same or not np.allclose(np.asarray(ds.PixelSpacing, float), np.asarray(first.PixelSpacing, float), 1e-3):
            raise Refused(f"{name}: found slices of different sizes; expected one volume.")
    order = np.argsort([float(np.dot(normal, np.asarray(ds.ImagePositionPatient, float))) for _, ds in read])
    read = _without_copies([read[index] for index in order], normal, name)
    places = np.asarray([[float(v) for v in ds.ImagePositionPatient] for _, ds in read])
    _check_even(places @ normal, name)
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(across[:3]) * float(first.PixelSpacing[1])
    affine[:3, 1] = np.asarray(across[3:]) * float(first.PixelSpacing[0])
    affine[:3, 2] = (places[-1] - places[0]) / (len(read) - 1)
    affine[:3, 3] = places[0]
    return SliceStack(
        tuple(path for path, _ in read),
        tuple(str(ds.SOPInstanceUID) for _, ds in read),
        RAS_FROM_LPS @ affine,
        (int(first.Columns), int(first.Rows), len(read)),
    )


def _header(path: Path, name: str) -> Dataset:
    try:
        ds = dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        has_all = all(ds.get(keyword) for keyword in _NEEDED)
        if (
            has_all
            and len(ds.ImagePositionPatient) == 3
            and len(ds.ImageOrientationPatient) == 6
            and len(ds.PixelSpacing) == 2
        ):
            return ds
    except (InvalidDicomError, AttributeError, TypeError, ValueError, OSError):
        pass
    raise Refused(
        f"{name}: found a file without position, orientation, pixel spacing, size or UIDs; expected MR images."
    )


def _without_strays(read: list[tuple[Path, Dataset]], name: str) -> list[tuple[Path, Dataset]]:
    def geometry(ds: Dataset) -> list[float]:
        return [float(v) for v in (ds.Rows, ds.Columns, *ds.PixelSpacing, *ds.ImageOrientationPatient)]

    all_of_them = [geometry(ds) for _, ds in read]
    usual, _ = Counter(tuple(np.round(one, 2)) for one in all_of_them).most_common(1)[0]
    fits = [np.allclose(one, usual, atol=0.01) for one in all_of_them]
    if sum(fits) < len(read) <= sum(fits) * (1 + STRAYS):
        logger.warning("%s: %d slices of another orientation or size are left out", name, len(read) - sum(fits))
        return [item for item, fit in zip(read, fits, strict=True) if fit]
    return read


def _without_copies(read: list[tuple[Path, Dataset]], normal: np.ndarray, name: str) -> list[tuple[Path, Dataset]]:
    """Drop slices with the same position and pixels as the one before; ``read`` is in order."""
    kept = read[:1]
    for path, ds in read[1:]:
        last_path, last = kept[-1]
        step = np.dot(normal, np.subtract(ds.ImagePositionPatient, last.ImagePositionPatient).astype(float))
        if step < 1e-3 and dcmread(path).get("PixelData") == dcmread(last_path).get("PixelData"):
            logger.warning("%s: a slice that came twice is left out", name)
        else:
            kept.append((path, ds))
    return kept


def _check_even(places: Sequence[float] | np.ndarray, name: str) -> None:
    steps = np.diff(places)
    usual = float(np.median(steps))
    if (steps < 1e-3).any():
        twice = int((steps < 1e-3).sum())
        raise Refused(
            f"{name}: found {twice} slices at the place of another (several echoes or time points); expected one image."
        )
    off = np.abs(steps - usual)
    if (off > max(UNEVEN * usual, UNEVEN_MM)).any():
        at = int(np.argmax(off))
        raise Refused(
            f"{name}: found {steps[at]:.2f} mm between slices {at + 1} and {at + 2} and {usual:.2f} mm elsewhere; "
            "expected even distances. Slices may be missing on the server."
        )


def to_nifti(files: Iterable[Path], target: Path, name: str = "Series") -> Path:
    """Write a series to ``target`` (.nii.gz), with rescaled pixels as GDCM reads them and the geometry of the headers.

    Args:
        files: one slice each, in any order.
        name: of the series, for errors.

    Raises:
        Refused: if the files do not form a volume, or pixels cannot be decoded.
    """
    stack = stack_slices(files, name)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(path) for path in stack.files])
    try:
        image = reader.Execute()
    except RuntimeError:
        raise Refused(f"{name}: found pixels that cannot be decoded; expected MR images.") from None
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise Refused(f"{name}: found a colour image; expected an MR image.")
    array = SimpleITK.GetArrayViewFromImage(image).transpose(2, 1, 0)
    if array.shape != stack.shape:
        raise Refused(f"{name}: found pixels of shape {array.shape}; expected {stack.shape} by its headers.")
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif array.dtype.itemsize > 4:
        array = array.astype(np.int32)
    nifti = nib.Nifti1Image(array, stack.affine)
    nifti.header.set_xyzt_units("mm", "sec")
    with durable_write(target) as draft:
        nib.save(nifti, draft)
    return target
