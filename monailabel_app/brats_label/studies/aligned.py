"""A case on one grid: registered to its reference, and how labels and points get there and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from brats_clip.cases.registration import mutual_information, rigid_search, sitk_image
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
        """Resample a label that was drawn on ``sequence`` to the grid of the reference, by the nearest voxel.

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

    def voxel_at(self, sequence: str, mm: Sequence[float]) -> list[int]:
        """The voxel on the native grid of ``sequence`` that is nearest to a position in RAS mm of the reference."""
        grid = self._grid(sequence)
        across = np.linalg.solve(grid.affine, self._motion(sequence))
        found = np.rint(across[:3, :3] @ np.asarray(mm, float) + across[:3, 3])
        return np.clip(found, 0, np.array(grid.shape) - 1).astype(int).tolist()

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


_FINEST_MM = 2.0  # below, it takes longer and gains nothing: aligned to a tenth of a voxel
_MARGIN_MM = 8.0  # around the brain: its edge is what aligns best
# Below these, what is found is noise of the search: resampling would only blur.
_LEAST_SHARE, _LEAST_MM = 0.5, 1.0  # of the reference's smallest voxel side, and that is enough
_LEAST_GAIN = 0.01  # of the metric; BraTS cases, aligned by their makers, gain up to 0.007


class Motion(NamedTuple):
    """A rigid motion.

    Attributes:
        matrix: ``(4, 4)`` from RAS mm of the reference to RAS mm of the sequence.
        moved_mm: how far the middle of the reference's brain goes.
        turned_degrees: about the axis of the rotation.
    """

    matrix: np.ndarray
    moved_mm: float
    turned_degrees: float


def register(fixed: np.ndarray, grid: Grid, moving: np.ndarray, moving_grid: Grid) -> Motion | None:
    """Find the rigid motion that aligns ``moving`` to ``fixed`` by Mattes' mutual information, coarse to fine.

    Equal volumes give equal motions, whatever runs beside.

    Args:
        fixed, moving: ``(X, Y, Z)``, the reference and the other sequence, background 0.
        grid, moving_grid: their grids.

    Returns:
        None if they lie as well as they are, nothing better was found, or the axes of a grid are sheared.
    """
    inside = np.argwhere(fixed > 0)
    if not len(inside) or not (moving > 0).any() or grid.sheared or moving_grid.sheared:
        return None
    low, high = inside.min(axis=0), inside.max(axis=0)
    margin = _MARGIN_MM / grid.spacing
    search = grid.box(low - margin, high + margin, max(_FINEST_MM, float(grid.spacing.min())))
    reference = sitk_image(resample(fixed, grid, search, np.eye(4), linear=True), search)
    other = sitk_image(moving, moving_grid)
    other = sitk.BinShrink(other, [max(1, int(_FINEST_MM / side + 0.1)) for side in moving_grid.spacing])
    start = sitk.Euler3DTransform()
    start.SetCenter(search.centre[:3].tolist())
    before = mutual_information(start).MetricEvaluate(reference, other)
    try:
        found = rigid_search(start, reference).Execute(reference, other)
        after = mutual_information(found).MetricEvaluate(reference, other)
    except RuntimeError:  # it went astray: too few samples are inside both
        return None
    matrix = np.eye(4)
    matrix[:3, 3] = found.TransformPoint((0.0, 0.0, 0.0))
    matrix[:3, :3] = np.transpose([found.TransformPoint(tuple(unit)) - matrix[:3, 3] for unit in np.eye(3)])
    corners = search.corners()
    reach = float(np.linalg.norm((matrix @ corners - corners)[:3], axis=0).mean())
    if after > before * (1 + _LEAST_GAIN) or reach < min(_LEAST_SHARE * grid.spacing.min(), _LEAST_MM):
        return None
    moved = float(np.linalg.norm((matrix @ search.centre - search.centre)[:3]))
    turned = float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))))
    return Motion(matrix, moved, turned)
