"""Where the voxels of an image lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes

from brats_clip.geometry import TOLERANCE_MM as GRID_TOLERANCE_MM

__all__ = ["GRID_TOLERANCE_MM", "Grid"]


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid of voxels.

    Args:
        shape: ``(X, Y, Z)``; further axes are left away.
        affine: ``(4, 4)``, voxel to RAS mm.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape[:3]))
        object.__setattr__(self, "affine", np.array(self.affine, np.float64))

    @classmethod
    def of(cls, image: nib.spatialimages.SpatialImage | Path) -> Grid:
        """The grid of a NIfTI image, or of a file of which the header alone is read."""
        image = nib.load(image) if isinstance(image, Path) else image
        return cls(image.shape, image.affine)

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size, ``(3,)`` mm."""
        return voxel_sizes(self.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def centre(self) -> np.ndarray:
        """Middle of the volume, ``(4,)`` RAS mm and 1."""
        return self.affine @ [*((np.array(self.shape) - 1) / 2), 1]

    def corners(self) -> np.ndarray:
        """Centres of the eight outermost voxels, ``(4, 8)`` RAS mm and 1."""
        return self.affine @ [*np.array(np.meshgrid(*((0, n - 1) for n in self.shape))).reshape(3, 8), np.ones(8)]

    def same_as(self, other: Grid) -> bool:
        """Whether both have one shape, and corners within ``GRID_TOLERANCE_MM``."""
        if self.shape != other.shape:
            return False
        return np.linalg.norm((self.corners() - other.corners())[:3], axis=0).max() <= GRID_TOLERANCE_MM

    def overlaps(self, other: Grid, across: np.ndarray) -> bool:
        """Whether some voxel of one lies in the other; ``across`` ``(4, 4)`` takes RAS mm here to RAS mm there."""
        there = np.linalg.inv(other.affine) @ across @ self.affine
        return _some_inside(self.shape, there, other.shape) or _some_inside(
            other.shape, np.linalg.inv(there), self.shape
        )

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        spacing = " x ".join(f"{mm:.4g}" for mm in self.spacing)
        first = ", ".join(f"{mm:.4g}" for mm in self.affine[:3, 3])
        axes = "".join(code or "?" for code in nib.aff2axcodes(self.affine))
        return f"{size} voxels of {spacing} mm, first voxel at ({first}) mm RAS, axes {axes}"


def _some_inside(shape: tuple[int, ...], there: np.ndarray, other: tuple[int, ...]) -> bool:
    axes = [np.unique(np.linspace(0, n - 1, 24).round()) for n in shape]
    points = np.array(np.meshgrid(*axes)).reshape(3, -1)
    index = there[:3, :3] @ points + there[:3, 3:]
    inside = (index >= -0.5) & (index <= np.array(other)[:, None] - 0.5)
    return bool(inside.all(axis=0).any())
