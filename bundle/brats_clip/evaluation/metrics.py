"""Dice, HD95, sensitivity and volume of one binary mask against another, with the BraTS rule for empty masks.

| truth | prediction | Dice | HD95 | sensitivity |
|---|---|---|---|---|
| empty | empty | 1 | 0 mm | 1 |
| empty | not empty | 0 | 373.13 mm | 0 |
| not empty | empty | 0 | 373.13 mm | 0 |

373.13 mm is the diagonal of the BraTS volume (240 x 240 x 155 mm), the penalty of BraTS 2018-2022. Sensitivity is
undefined for an empty truth; BraTS' own code scores a false region as 0, so that every metric penalises it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance

from ..geometry import bounding_box

HD95_ONE_EMPTY = 373.13
MM3_PER_ML = 1000.0


def dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Dice of two boolean masks ``(X, Y, Z)``; 1 when both are empty."""
    total = int(prediction.sum()) + int(truth.sum())
    return 1.0 if total == 0 else 2.0 * int((prediction & truth).sum()) / total


def hd95(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """95th percentile of the Hausdorff distance in mm: the larger of the two directed ones, between surface voxels.

    Args:
        prediction, truth: boolean masks ``(X, Y, Z)``.
        spacing: voxel size in mm along the three axes.
    """
    if not (prediction.any() and truth.any()):
        return HD95_ONE_EMPTY if prediction.any() or truth.any() else 0.0
    pair = [torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (prediction, truth)]
    with warnings.catch_warnings():  # MONAI 1.6 warns about an argument that its own code passes
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        distance = compute_hausdorff_distance(
            *pair, include_background=True, percentile=95, spacing=[float(s) for s in spacing]
        )
    return float(distance)


def sensitivity(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true voxels that were found; without true voxels, 1 if none were predicted and 0 otherwise."""
    true = int(truth.sum())
    if true == 0:
        return 0.0 if prediction.any() else 1.0
    return int((prediction & truth).sum()) / true


def volume_ml(mask: np.ndarray, spacing: Sequence[float]) -> float:
    """Volume of a mask in millilitres; ``spacing`` in mm."""
    return int(mask.sum()) * float(np.prod(spacing)) / MM3_PER_ML


def crop_to_union(*maps: np.ndarray, margin: int = 0) -> list[np.ndarray]:
    """Crop maps of equal shape to the bounding box of their non-zero voxels; one voxel per axis if all are zero."""
    union = np.logical_or.reduce([m != 0 for m in maps])
    box = bounding_box(union) or (slice(0, 1),) * 3
    box = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in box)
    return [m[box] for m in maps]
