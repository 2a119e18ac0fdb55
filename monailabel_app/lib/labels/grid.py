"""Where the voxels of an image lie, and whether a label lies on the same ones."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

from brats_clip.cases.volume import GRID_TOLERANCE_MM

from ..errors import Refused


@dataclass(frozen=True, eq=False)
class Grid:
    """``shape`` in voxels and ``affine`` (4, 4) from voxel to mm in RAS."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    @classmethod
    def of(cls, image: nib.spatialimages.SpatialImage | Path) -> Grid:
        """The grid of a NIfTI image, or of a file of which the header alone is read."""
        image = nib.load(image) if isinstance(image, Path) else image
        return cls(tuple(int(size) for size in image.shape[:3]), np.asarray(image.affine, np.float64))

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def distance_mm(self, other: Grid) -> float:
        """How far corners with equal indices lie apart at most; infinite for another shape."""
        if self.shape != other.shape:
            return float("inf")
        corners = np.array([(*c, 1) for c in itertools.product(*((0, size - 1) for size in self.shape))])
        return float(np.linalg.norm(corners @ (self.affine - other.affine).T, axis=1).max())

    def same_as(self, other: Grid) -> bool:
        """Whether both have one shape, and corners within ``GRID_TOLERANCE_MM``."""
        return self.distance_mm(other) <= GRID_TOLERANCE_MM

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        spacing = " x ".join(f"{mm:.4g}" for mm in voxel_sizes(self.affine))
        first = ", ".join(f"{mm:.4g}" for mm in self.affine[:3, 3])
        return f"{size} voxels of {spacing} mm, first voxel at ({first}) mm RAS, axes {self._axes()}"

    def _axes(self) -> str:
        return "".join(code or "?" for code in nib.aff2axcodes(self.affine))


@dataclass(frozen=True)
class Placement:
    """How an array is turned, and into which box of ``grid`` it goes, without touching a value."""

    grid: Grid
    turn: np.ndarray
    start: tuple[int, int, int]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Place ``(X, Y, Z, L)``; voxels outside the box are 0."""
        turned = apply_orientation(array, self.turn)
        if turned.shape[:3] == self.grid.shape:
            return turned
        placed = np.zeros((*self.grid.shape, *turned.shape[3:]), turned.dtype)
        box = tuple(slice(begin, begin + size) for begin, size in zip(self.start, turned.shape, strict=False))
        placed[box] = turned
        return placed


def find_placement(drawn: Grid, grid: Grid, cropped: bool = False) -> Placement:
    """Find where a label's voxels lie among those of the image it is for.

    Axes in another order or direction are turned. With ``cropped``, as Slicer may save a segmentation, the label may
    cover a box of the image's voxels.

    Raises:
        Refused: if the voxels do not coincide; the sentence says both grids.
    """
    affine = drawn.affine
    if np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9:
        turn = ornt_transform(io_orientation(affine), io_orientation(grid.affine))
        shape = tuple(drawn.shape[int(axis)] for axis in np.argsort(turn[:, 0]))
        turned = Grid(shape, affine @ inv_ornt_aff(turn, drawn.shape))
        if turned.same_as(grid):
            return Placement(grid, turn, (0, 0, 0))
        offset = (np.linalg.inv(grid.affine) @ turned.affine)[:3, 3]
        start = np.rint(offset).astype(int)
        box = Grid(shape, grid.affine @ nib.affines.from_matvec(np.eye(3), start))
        inside = (start >= 0).all() and (start + shape <= grid.shape).all()
        if cropped and inside and turned.same_as(box):
            return Placement(grid, turn, tuple(int(begin) for begin in start))
    raise Refused(
        f"The label lies on another grid than the image it was submitted for: found {drawn}; expected {grid} "
        f"(within {GRID_TOLERANCE_MM} mm). Export it with that image as reference."
    )
