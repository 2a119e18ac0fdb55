"""A case on one grid, and the transfer of labels and points to and from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from brats_clip.cases import Preparation
from brats_clip.geometry import Grid, resample
from brats_clip.images import new_image

from ..errors import NotFound, Refused


@dataclass(frozen=True)
class Aligned:
    """A case on one grid, the working grid. Labels are stored on the native grid of its reference.

    Attributes:
        files: 3D NIfTI by sequence, all on the working grid; the native file if it is on this grid already.
        reference: the sequence that gives the working grid its axes and world space, and often its voxels.
        preparation: the grids, the motion of each sequence, and notes on the processing.
    """

    files: Mapping[str, Path]
    reference: str
    preparation: Preparation

    @property
    def grids(self) -> Mapping[str, Grid]:
        """The native grid of each sequence."""
        return self.preparation.native

    @property
    def reference_affine(self) -> np.ndarray:
        """``(4, 4)`` of the native grid of the reference, voxel to RAS mm."""
        return self.grids[self.reference].affine

    def label_on(self, sequence: str, label: np.ndarray) -> nib.Nifti1Image:
        """Resample a label to the native grid of ``sequence``, by the nearest voxel.

        Args:
            label: ``(X, Y, Z)``, integers on the working grid.

        Raises:
            NotFound: if the case has no such sequence.
            Refused: if the label has another shape.
        """
        working = self.preparation.working
        if np.shape(label) != working.shape:
            found, wanted = (" x ".join(map(str, shape)) for shape in (np.shape(label), working.shape))
            raise Refused(f"The label has {found} voxels; expected {wanted}, those of the case.")
        return new_image(self._transfer(label, working, None, sequence), self._grid(sequence).affine)

    def label_from(
        self, sequence: str, label: np.ndarray, affine: np.ndarray, to: str | None = "reference"
    ) -> np.ndarray:
        """Resample a label that was drawn on ``sequence``, by the nearest voxel.

        Args:
            label: ``(X, Y, Z)``, integers.
            affine: ``(4, 4)``, voxel to RAS mm; the label may be cropped or have its axes in another order.
            to: the sequence with the target grid, "reference" for the reference sequence; None for the working grid.

        Returns:
            ``(X, Y, Z)``, 0 outside the label.

        Raises:
            NotFound: if the case has no such sequence.
            Refused: if it is not a 3D label.
        """
        label, affine = np.asarray(label), np.asarray(affine, np.float64)
        if label.ndim != 3 or affine.shape != (4, 4) or not abs(np.linalg.det(affine)) > 1e-9:
            raise Refused(f"A label of shape {' x '.join(map(str, label.shape))}; expected a 3D label with an affine.")
        return self._transfer(label, Grid(label.shape, affine), sequence, self.reference if to == "reference" else to)

    def points_to_working(self, sequence: str, ijk: Sequence[Sequence[float]]) -> list[list[float]]:
        """Convert voxel positions on the native grid of ``sequence`` to positions on the working grid.

        Raises:
            NotFound: if the case has no such sequence.
            Refused: for positions that are not three finite numbers each.
        """
        grid, working = self._grid(sequence), self.preparation.working
        try:
            points = np.array(ijk, np.float64).reshape(-1, 3) if len(ijk) else np.zeros((0, 3))
            good = np.isfinite(points).all() and len(points) == len(ijk)
        except (TypeError, ValueError):
            good = False
        if not good:
            raise Refused("A position of a click is not three finite numbers; expected [i, j, k] in voxels.")
        if self._in_place(grid, sequence, working, None):
            return points.tolist()
        across = np.linalg.inv(self._motion(sequence) @ working.affine) @ grid.affine
        return (points @ across[:3, :3].T + across[:3, 3]).tolist()

    def voxel_at(self, sequence: str, mm: Sequence[float]) -> list[int]:
        """The voxel on the native grid of ``sequence`` that is nearest to a position in RAS mm of the reference."""
        grid = self._grid(sequence)
        across = np.linalg.solve(grid.affine, self._motion(sequence))
        found = np.rint(across[:3, :3] @ np.asarray(mm, float) + across[:3, 3])
        return np.clip(found, 0, np.array(grid.shape) - 1).astype(int).tolist()

    def _transfer(self, label: np.ndarray, grid: Grid, drawn_on: str | None, to: str | None) -> np.ndarray:
        """Resample a label on ``grid``, in the world of ``drawn_on``, to the grid of ``to``; None: the working grid."""
        label, target = _whole(label), self._grid(to)
        self._grid(drawn_on)
        if self._in_place(grid, drawn_on, target, to):
            return label
        return resample(label, grid, target, self._motion(drawn_on) @ np.linalg.inv(self._motion(to)), linear=False)

    def _grid(self, sequence: str | None) -> Grid:
        if sequence is None:
            return self.preparation.working
        if sequence not in self.grids:
            raise NotFound(f"The case has no {sequence}; it has {', '.join(self.grids)}.")
        return self.grids[sequence]

    def _motion(self, sequence: str | None) -> np.ndarray:
        return np.eye(4) if sequence is None else self.preparation.motions[sequence]

    def _in_place(self, grid: Grid, one: str | None, other_grid: Grid, other: str | None) -> bool:
        same = one == other or np.array_equal(self._motion(one), self._motion(other))
        return same and grid.same_as(other_grid)


def _whole(label: np.ndarray) -> np.ndarray:
    """Convert the label to an integer type that SimpleITK and NIfTI support."""
    label = np.asarray(label)
    if label.dtype.kind in "ui" and label.dtype.itemsize < 8:
        return label
    return label.astype(np.uint8 if label.dtype == bool else np.int32)
