"""Bring voxels from one grid to another: any axis order, flips, oblique or sheared axes."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

__all__ = ["Grid", "resample"]

# That of the bundle: beyond it, it takes two files for files on different grids.
_TOLERANCE_MM = 0.01


class Grid:
    """A grid of voxels.

    Args:
        shape: ``(X, Y, Z)``.
        affine: ``(4, 4)``, voxel to RAS mm.
    """

    def __init__(self, shape: tuple[int, ...], affine: np.ndarray) -> None:
        self.shape = tuple(int(n) for n in shape[:3])
        self.affine = np.array(affine, np.float64)

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size, ``(3,)`` mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def centre(self) -> np.ndarray:
        """Middle of the volume, ``(4,)`` RAS mm and 1."""
        return self.affine @ [*((np.array(self.shape) - 1) / 2), 1]

    def corners(self) -> np.ndarray:
        """Centres of the eight outermost voxels, ``(4, 8)`` RAS mm and 1."""
        return self.affine @ [*np.array(np.meshgrid(*((0, n - 1) for n in self.shape))).reshape(3, 8), np.ones(8)]

    def same_as(self, other: Grid) -> bool:
        """Whether both have one shape, and corners within 0.01 mm."""
        if self.shape != other.shape:
            return False
        return np.linalg.norm((self.corners() - other.corners())[:3], axis=0).max() <= _TOLERANCE_MM

    def overlaps(self, other: Grid, across: np.ndarray) -> bool:
        """Whether some voxel of one lies in the other; ``across`` ``(4, 4)`` takes RAS mm here to RAS mm there."""
        there = np.linalg.inv(other.affine) @ across @ self.affine
        return _some_inside(self.shape, there, other.shape) or _some_inside(
            other.shape, np.linalg.inv(there), self.shape
        )


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


def _some_inside(shape: tuple[int, ...], there: np.ndarray, other: tuple[int, ...]) -> bool:
    axes = [np.unique(np.linspace(0, n - 1, 24).round()) for n in shape]
    points = np.array(np.meshgrid(*axes)).reshape(3, -1)
    index = there[:3, :3] @ points + there[:3, 3:]
    inside = (index >= -0.5) & (index <= np.array(other)[:, None] - 0.5)
    return bool(inside.all(axis=0).any())
