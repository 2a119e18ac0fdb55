"""A case whose sequences lie on one grid, and how labels and points get there and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

from brats_clip.geometry import Grid, resample
from brats_clip.images import new_image

from ..errors import NotFound, Refused


@dataclass(frozen=True)
class Aligned:
    """A case on one grid.

    Attributes:
        files: 3D NIfTI by sequence, all on the grid of the reference; the native file where it lies there already.
        reference: the sequence whose grid it is.
        grids: the native grid of each sequence.
        motions: by sequence that was registered, ``(4, 4)`` from RAS mm of the reference to RAS mm of the sequence.
        notes: what was resampled and moved, for people.
    """

    files: Mapping[str, Path]
    reference: str
    grids: Mapping[str, Grid]
    motions: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def reference_affine(self) -> np.ndarray:
        """``(4, 4)`` of that grid, voxel to RAS mm."""
        return self.grids[self.reference].affine

    def label_on(self, sequence: str, label: np.ndarray) -> nib.Nifti1Image:
        """Show a label on the native grid of ``sequence``, by the nearest voxel.

        Args:
            label: ``(X, Y, Z)``, whole numbers on the reference's grid.

        Raises:
            NotFound: if the case has no such sequence.
            Refused: if the label has another shape.
        """
        target, source = self._grid(sequence), self.grids[self.reference]
        label = _whole(label)
        if label.shape != source.shape:
            found, wanted = (" x ".join(map(str, shape)) for shape in (label.shape, source.shape))
            raise Refused(f"The label has {found} voxels; expected {wanted}, the grid of {self.reference}.")
        if not self._lies_there(sequence):
            label = resample(label, source, target, np.linalg.inv(self._motion(sequence)), linear=False)
        return new_image(label, target.affine)

    def label_from(self, sequence: str, label: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Bring a label that was drawn on ``sequence`` to the grid of the reference, by the nearest voxel.

        Args:
            label: ``(X, Y, Z)``, whole numbers.
            affine: ``(4, 4)`` of the label, voxel to RAS mm; it may be cropped or have its axes in another order.

        Returns:
            ``(X, Y, Z)`` on the reference's grid, 0 where the label does not reach.

        Raises:
            NotFound: if the case has no such sequence.
            Refused: if it is no 3D label.
        """
        self._grid(sequence)
        label, affine = _whole(label), np.asarray(affine, np.float64)
        if label.ndim != 3 or affine.shape != (4, 4) or not abs(np.linalg.det(affine)) > 1e-9:
            raise Refused(f"A label of shape {' x '.join(map(str, label.shape))}; expected a 3D label with an affine.")
        source, target = Grid(label.shape, affine), self.grids[self.reference]
        motion = self._motion(sequence)
        if source.same_as(target) and np.array_equal(motion, np.eye(4)):
            return label
        return resample(label, source, target, motion, linear=False)

    def points_to_reference(self, sequence: str, ijk: Sequence[Sequence[float]]) -> list[list[float]]:
        """Turn voxel positions on the native grid of ``sequence`` into those on the grid of the reference.

        Raises:
            NotFound: if the case has no such sequence.
            Refused: for positions that are not three finite numbers each.
        """
        grid = self._grid(sequence)
        try:
            points = np.array(ijk, np.float64).reshape(-1, 3) if len(ijk) else np.zeros((0, 3))
            good = np.isfinite(points).all() and len(points) == len(ijk)
        except (TypeError, ValueError):
            good = False
        if not good:
            raise Refused("A position of a click is not three finite numbers; expected [i, j, k] in voxels.")
        if self._lies_there(sequence):
            return points.tolist()
        across = np.linalg.inv(self._motion(sequence) @ self.reference_affine) @ grid.affine
        return (points @ across[:3, :3].T + across[:3, 3]).tolist()

    def _grid(self, sequence: str) -> Grid:
        if sequence not in self.grids:
            raise NotFound(f"The case has no {sequence}; it has {', '.join(self.grids)}.")
        return self.grids[sequence]

    def _motion(self, sequence: str) -> np.ndarray:
        return self.motions.get(sequence, np.eye(4))

    def _lies_there(self, sequence: str) -> bool:
        return sequence not in self.motions and self.grids[sequence].same_as(self.grids[self.reference])


def _whole(label: np.ndarray) -> np.ndarray:
    """The label as an unsigned or signed whole type that SimpleITK and NIfTI know."""
    label = np.asarray(label)
    if label.dtype.kind in "ui" and label.dtype.itemsize < 8:
        return label
    return label.astype(np.uint8 if label.dtype == bool else np.int32)
