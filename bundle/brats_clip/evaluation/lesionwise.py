"""Lesion-wise scores in the manner of BraTS 2023.

A case with one large lesion found and three small ones missed has a high Dice; here every lesion counts alike:

1. true voxels are grouped into lesions by dilating them and labelling what then touches (26-connected), so that
   crumbs beside a lesion are not lesions of their own;
2. each connected predicted component belongs to every lesion whose dilation it touches, and a lesion's Dice is taken
   with all components that belong to it (a lesion that none touches scores 0);
3. a predicted component that touches no dilated lesion is a false lesion and scores 0;
4. true lesions of at most 50 mm3 are left out, found or not. Predicted components have no such threshold.

The score of the case is the mean over true and false lesions, 1 when there are neither. Rules as in the organisers'
github.com/rachitsaluja/BraTS-2023-Metrics for gliomas; they dilate by three voxels of 1 mm, which is put here in mm so
that it means the same on other grids. docs/metrics.md of the bundle compares the scores with those of the organisers'
present package.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from scipy.ndimage import binary_erosion

from .metrics import crop_to_union

DILATION_MM = 3.0
SMALL_LESION_MM3 = 50.0
_CONNECTIVITY = 26


@dataclass(frozen=True)
class LesionScores:
    """Lesion-wise scores of one region: mean Dice, and how many lesions are true, missed and false."""

    dice: float
    truth: int
    missed: int
    false: int


def dilate_mm(mask: np.ndarray, spacing: Sequence[float], reach: float = DILATION_MM) -> np.ndarray:
    """Dilate a boolean mask ``(X, Y, Z)`` by ``reach`` mm; the mask must leave room at its borders or it is cut there.

    On a 1 mm grid and 3 mm it equals three passes of the 18-neighbourhood (offsets of at most 3 mm along each axis
    and 6 mm in sum).
    """
    steps = [int(reach / s + 1e-6) for s in spacing]
    padded = np.pad(mask, [(s, s) for s in steps])
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    # The inside of a mask dilates into the mask itself: painting from the surface alone is enough.
    surface = np.flatnonzero(padded & ~binary_erosion(padded))
    out = padded.ravel().copy()
    for offset in itertools.product(*(range(-s, s + 1) for s in steps)):
        if sum(abs(o) * s for o, s in zip(offset, spacing, strict=True)) <= 2 * reach + 1e-6:
            out[surface + int(strides @ offset)] = True
    inside = tuple(slice(s, s + n) for s, n in zip(steps, mask.shape, strict=True))
    return out.reshape(padded.shape)[inside]


def lesionwise(
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing: Sequence[float],
    small_lesion_mm3: float = SMALL_LESION_MM3,
) -> LesionScores:
    """Score the lesions of one region.

    Args:
        prediction, truth: boolean masks ``(X, Y, Z)``.
        spacing: voxel size in mm along the three axes.
        small_lesion_mm3: true lesions of at most this volume do not count.
    """
    prediction, truth = crop_to_union(prediction, truth)
    room = [int(DILATION_MM / s + 1e-6) for s in spacing]
    prediction, truth = (np.pad(m, [(r, r) for r in room]) for m in (prediction, truth))
    # The dilation of a lesion is exactly its component of the dilated truth, so one labelling serves both.
    reach = cc3d.connected_components(dilate_mm(truth, spacing), connectivity=_CONNECTIVITY)
    found = cc3d.connected_components(prediction, connectivity=_CONNECTIVITY)
    true_size = np.bincount(reach[truth], minlength=int(reach.max()) + 1)
    found_size = np.bincount(found.ravel())
    touching = np.unique(np.stack([reach[prediction], found[prediction]]), axis=1)
    touching = touching[:, touching[0] > 0]
    overlap = np.zeros((true_size.size, found_size.size), np.int64)
    np.add.at(overlap, (reach[truth], found[truth]), 1)

    scores, missed = [], 0
    for lesion in range(1, true_size.size):
        if true_size[lesion] * float(np.prod(spacing)) <= small_lesion_mm3:
            continue
        components = touching[1, touching[0] == lesion]
        missed += components.size == 0
        total = true_size[lesion] + found_size[components].sum()
        scores.append(2.0 * overlap[lesion, components].sum() / total)
    false = found_size.size - 1 - np.unique(touching[1]).size
    count = len(scores) + false
    return LesionScores(float(sum(scores) / count) if count else 1.0, len(scores), int(missed), int(false))
