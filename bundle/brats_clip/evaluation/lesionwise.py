"""Lesion-wise scores as in BraTS 2023.

A case with one large detected lesion and three small missed ones has a high Dice. Here, all lesions count equally:

1. true voxels are one lesion if they lie in the same connected component (26-connected) of the dilated true mask, so
   that fragments beside a lesion are not lesions of their own;
2. each predicted component belongs to every lesion whose dilation it touches, and the Dice of a lesion is computed
   with all components that belong to it (a lesion without components scores 0);
3. a predicted component that touches no dilated lesion is a false lesion and scores 0;
4. true lesions of at most 50 mm3 are ignored, found or not. Predicted components have no such threshold.

The score of the case is the mean over true and false lesions, 1 if there are neither. The rules are those of the
organisers' github.com/rachitsaluja/BraTS-2023-Metrics for gliomas. It dilates by three voxels of 1 mm; here the
distance is in mm, so that it is the same on other grids. docs/metrics.md of the bundle compares the scores with those
of the organisers' current package.
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
    """Lesion-wise scores of one region: mean Dice, and the numbers of true, missed and false lesions."""

    dice: float
    truth: int
    missed: int
    false: int


def dilate_mm(mask: np.ndarray, spacing: Sequence[float], reach: float = DILATION_MM) -> np.ndarray:
    """Dilate a boolean mask ``(X, Y, Z)`` by ``reach`` mm; the result is cut off at the borders of the array.

    On a 1 mm grid and 3 mm it equals three passes of the 18-neighbourhood (offsets of at most 3 mm along each axis
    and 6 mm in sum).
    """
    steps = [int(reach / s + 1e-6) for s in spacing]
    padded = np.pad(mask, [(s, s) for s in steps])
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    # Interior voxels dilate into the mask itself, so dilating the surface voxels is enough.
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
        small_lesion_mm3: true lesions of at most this volume are ignored.
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
