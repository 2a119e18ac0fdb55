"""Dice per region, as the figures of all commands have it."""

from __future__ import annotations

import numpy as np

from brats_clip.evaluation.metrics import crop_to_union, dice
from brats_clip.labels import REGIONS

MEASURES = (*REGIONS, "mean")


def dice_of(answer: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Dice per region and their mean, as ``case_metrics`` has them, without what else it takes seconds to compute.

    Args:
        answer, truth: label maps ``(X, Y, Z)`` with 0, 1, 2 and 4.
    """
    answer, truth = crop_to_union(answer, truth)
    values = {f"dice_{r}": dice(np.isin(answer, v), np.isin(truth, v)) for r, v in REGIONS.items()}
    return values | {"dice_mean": sum(values.values()) / len(values)}
