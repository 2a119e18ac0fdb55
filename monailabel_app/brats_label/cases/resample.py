"""Bring voxels from one grid to another: any axis order, flips, oblique or sheared axes."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .grid import Grid

__all__ = ["resample"]


def resample(array: np.ndarray, source: Grid, target: Grid, across: np.ndarray, linear: bool) -> np.ndarray:
    """Sample ``array`` on another grid; 0 outside.

    Args:
        array: ``(X, Y, Z)`` on ``source``.
        across: ``(4, 4)`` from RAS mm of ``target`` to RAS mm of ``source``.
        linear: interpolate; else the nearest voxel counts, as labels need it.

    Returns:
        ``(X, Y, Z)`` on ``target``: float32, or the type of a label.
    """
    # Between voxel indices, since an image of SimpleITK cannot have sheared axes.
    between = np.linalg.inv(source.affine) @ across @ target.affine
    transform = sitk.AffineTransform(between[:3, :3].ravel().tolist(), between[:3, 3].tolist())
    kind = np.float32 if linear else array.dtype
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T.astype(kind, copy=False)))
    frame = sitk.Image([2, 2, 2], sitk.sitkUInt8)
    how = sitk.ResampleImageFilter()
    how.SetReferenceImage(frame)
    how.SetSize(target.shape)
    how.SetTransform(transform)
    how.SetInterpolator(sitk.sitkLinear if linear else sitk.sitkNearestNeighbor)
    how.SetOutputPixelType(image.GetPixelID())
    return np.ascontiguousarray(sitk.GetArrayFromImage(how.Execute(image)).T)
