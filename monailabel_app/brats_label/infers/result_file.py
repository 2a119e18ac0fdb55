"""The label map as the file that a viewer asked for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK

from ..errors import ClientError

EXTENSIONS = (".nii.gz", ".nii", ".nrrd")


def write_result(label: nib.Nifti1Image, extension: str, compress: bool = True) -> Path:
    """Write a label map to a temporary file, which whoever sends it removes.

    Args:
        label: 3D, uint8.
        extension: one of ``EXTENSIONS``.
        compress: for NRRD; OHIF reads it uncompressed alone.

    Raises:
        ClientError: for another extension.
    """
    if extension not in EXTENSIONS:
        raise ClientError(f"result_extension: found {extension!r}; expected one of {', '.join(EXTENSIONS)}.")
    with tempfile.NamedTemporaryFile(suffix=extension, prefix="label-", delete=False) as file:
        path = Path(file.name)
    array = np.asarray(label.dataobj).astype(np.uint8)
    if extension == ".nrrd":
        SimpleITK.WriteImage(_to_itk(array, label.affine), str(path), compress)
    else:
        nib.save(nib.Nifti1Image(array, label.affine), path)
    return path


def _to_itk(array: np.ndarray, affine: np.ndarray) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(array.transpose(2, 1, 0))
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]
    spacing = np.linalg.norm(lps, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps / spacing).ravel().tolist())
    image.SetOrigin((np.diag([-1.0, -1.0, 1.0]) @ affine[:3, 3]).tolist())
    return image
