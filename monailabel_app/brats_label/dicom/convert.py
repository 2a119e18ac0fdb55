"""From the DICOM files of a series to a NIfTI file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK

from ..durable import durable_write
from ..errors import Refused
from .geometry import stack_slices


def to_nifti(files: Iterable[Path], target: Path, name: str = "Series") -> Path:
    """Write a series as ``target`` (.nii.gz): pixels as GDCM reads them, rescaled, and the geometry of the headers.

    Args:
        files: one slice each, in any order.
        name: how errors call the series.

    Raises:
        Refused: if they make no volume, or pixels cannot be decoded.
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
