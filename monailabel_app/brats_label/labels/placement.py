"""Whether a label lies on the voxels of an image, and on which."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

from ..cases.grid import GRID_TOLERANCE_MM, Grid
from ..errors import Refused


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
