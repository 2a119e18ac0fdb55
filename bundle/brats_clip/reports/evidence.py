"""Evidence in a segmentation for the findings that a report may state."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from ..errors import InputError
from ..labels import ET, NCR
from .describe import enhancement_and_necrosis
from .findings import LOBES
from .lobes import BrainFrame, lobe_of

# Findings are evaluated on a grid of about this spacing, so that a whole brain is fast.
_GRID_MM = 2.0
# Lower probabilities of WT count as 0: over a whole brain they would add up to more than a small lesion.
_FLOOR = 0.25
# A smaller volume is not a lesion.
_EMPTY_ML = 0.1
# The midline is accurate to about 3 mm, and a mass shifts it: the side is certain at this distance from it.
_MIDLINE_MM = 8.0
# Lobes are accurate to about 1 cm (see ``lobes.lobe_of``): a point this close to a lobe counts for it in part.
_NEAR_MM, _NEAR_CREDIT = 10.0, 0.6
_STEPS = _NEAR_MM * np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])
_MAX_POINTS = 2000


class ImageEvidence:
    """Evidence in a segmentation: volumes in ml, and where the whole tumour lies, as shares of its probability.

    Args:
        probabilities: ``(3, X, Y, Z)``, 0 to 1, of WT, TC and ET.
        affine: ``(4, 4)``, voxel to RAS world, mm; its origin is ignored.
        brain: boolean ``(X, Y, Z)``, True inside the brain.

    Raises:
        InputError: if a shape does not match, a probability is not between 0 and 1, ``brain`` is empty, or the affine
            is not invertible.
    """

    def __init__(self, probabilities: np.ndarray, affine: np.ndarray, brain: np.ndarray):
        probabilities, brain, affine = np.asarray(probabilities), np.asarray(brain, bool), np.asarray(affine, float)
        if probabilities.ndim != 4 or len(probabilities) != 3:
            raise InputError("probabilities", f"shape {probabilities.shape}", "(3, X, Y, Z)")
        if brain.shape != probabilities.shape[1:]:
            raise InputError("brain", f"shape {brain.shape}", f"that of the probabilities, {probabilities.shape[1:]}")
        if affine.shape != (4, 4) or not abs(np.linalg.det(affine)) > 0:
            raise InputError("affine", str(affine.tolist()), "a (4, 4) matrix with an inverse")
        spacing = nib.affines.voxel_sizes(affine)
        steps = np.maximum(1, np.round(_GRID_MM / spacing)).astype(int)
        grid = tuple(slice(None, None, step) for step in steps)
        orientation = nib.orientations.io_orientation(affine)
        self.spacing = (spacing * steps)[np.argsort(orientation[:, 0])]
        self.voxel_ml = float(np.prod(self.spacing)) / 1000
        brain = nib.orientations.apply_orientation(brain[grid], orientation)
        p = nib.orientations.apply_orientation(np.moveaxis(probabilities[(slice(None), *grid)], 0, -1), orientation)
        if not brain.any():
            raise InputError("brain", "no voxel", "the voxels inside the brain")
        if not (p.min() > -0.01 and p.max() < 1.01):
            raise InputError("probabilities", f"values from {p.min()} to {p.max()}", "numbers from 0 to 1")

        self.shape, self.voxels = brain.shape, np.argwhere(brain & (p[..., 0] >= _FLOOR))
        self.wt, self.tc, self.et = p[tuple(self.voxels.T)].astype(np.float64).T
        self.wt_ml = float(self.wt.sum()) * self.voxel_ml
        self.empty = self.wt_ml < _EMPTY_ML
        if self.empty:
            return
        mni = BrainFrame(brain.shape, self.spacing, brain).to_mni(self.voxels)
        share = self.wt / self.wt.sum()
        self.right = float(share @ np.clip(0.5 + mni[:, 0] / (2 * _MIDLINE_MM), 0, 1))
        self.central = float(share @ (np.abs(mni[:, 0]) < 20))

        some = slice(None, None, 1 + len(mni) // _MAX_POINTS)
        lobe = lobe_of((mni[some, None] + _STEPS).reshape(-1, 3)).reshape(-1, len(_STEPS), 1) == np.arange(len(LOBES))
        self.share = share[some] / share[some].sum()
        self.in_lobe = np.maximum(lobe[:, 0], _NEAR_CREDIT * lobe.any(axis=1))  # (points, lobes), 0 to 1
        self.lobes = dict(zip(LOBES, (self.share @ lobe[:, 0]).tolist(), strict=True))

    def ml(self, part: np.ndarray, floor: float) -> float:
        """Return the volume in ml of a part of the tumour, from probabilities of at least ``floor``."""
        return float(part[part >= floor].sum()) * self.voxel_ml

    def necrotic(self) -> bool:
        """Return whether enhancement encloses core that does not enhance, by the rule of ``describe_mask``."""
        core = np.zeros(self.shape, np.uint8)
        core[tuple(self.voxels.T)] = np.select([self.et >= 0.5, self.tc >= 0.5], [ET, NCR], 0)
        return enhancement_and_necrosis(core, self.spacing, self.voxel_ml)[1]
