"""Predict the quality of a segmentation from its logits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..geometry import Grid
from ..labels import REGIONS, nest
from ..transforms.regions import clean_label
from .features import Circumstances, case_features
from .model import NOT_FITTED, QualityModel
from .places import Geometry, find_places
from .voxels import Box, coarse_of, error_of_label, find_box, region_probabilities

NOTHING_KNOWN = Circumstances()


@dataclass(frozen=True)
class RegionEstimate:
    """Predicted quality of one region.

    Attributes:
        dice, dice_low, dice_high: expected Dice, and its prediction interval of probability ``QualityModel.coverage``.
        volume_ml, volume_low_ml, volume_high_ml: the same for the true volume.
        volume_error_ml: segmented minus expected volume.
    """

    dice: float
    dice_low: float
    dice_high: float
    volume_ml: float
    volume_low_ml: float
    volume_high_ml: float
    volume_error_ml: float


@dataclass(frozen=True)
class Assessment:
    """The predicted quality of a segmentation.

    Attributes:
        regions: estimates by region name.
        look_here: the places where a correction is likely worth most, best first; see ``places.find_places``.
        coverage: how often the true value lies in its interval.
        fitted: whether the prediction was fitted for the weights in use.
        features: the inputs of the expected Dice, ``(3, F)``.
    """

    regions: dict[str, RegionEstimate]
    look_here: list[dict[str, Any]]
    coverage: float
    fitted: bool
    features: np.ndarray

    @property
    def expected_dice(self) -> dict[str, float]:
        """Expected Dice of WT, TC and ET."""
        return {name: estimate.dice for name, estimate in self.regions.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types: ``expected_dice``, ``look_here``, and ``quality`` with the intervals."""
        quality: dict[str, Any] = {"fitted": self.fitted, "interval": self.coverage}
        if not self.fitted:
            quality["note"] = NOT_FITTED
        quality |= {name: asdict(estimate) for name, estimate in self.regions.items()}
        return {"expected_dice": self.expected_dice, "look_here": self.look_here, "quality": quality}


def assess(
    logits: Tensor,
    brain: Tensor,
    geometry: Geometry,
    model: QualityModel,
    known: Circumstances = NOTHING_KNOWN,
    clicks: np.ndarray | None = None,
) -> Assessment:
    """Predict the quality of the segmentation that results from ``logits``.

    Args:
        logits: ``(3, D, H, W)`` of WT, TC and ET on the working grid.
        brain: brain mask, bool, at every second voxel of the working grid.
        geometry: of the working grid and of the case.
        known: what is known besides the image.
        clicks: voxels of the working grid that were clicked, ``(K, 3)``.
    """
    voxel_ml = Grid(logits.shape[1:], geometry.affine).voxel_ml
    box, probabilities, label = _calibrated(logits, model, voxel_ml)
    coarse = coarse_of(probabilities, label[0])
    features, expected, answered = case_features(coarse, voxel_ml, known)
    regions = {}
    for i, name in enumerate(REGIONS):
        dice = model.expected_dice(i, features[i].tolist())
        volume = model.expected_volume(i, float(expected[i]))
        numbers = [*(round(n, 3) for n in dice), *(round(n, 2) for n in volume)]
        regions[name] = RegionEstimate(*numbers, round(float(answered[i] - expected[i]), 2))
    total = (expected + answered).tolist()
    places = find_places(probabilities, label[0], coarse, box.corner, total, geometry, brain, clicks)
    return Assessment(regions, places, model.coverage, model.fitted, features.numpy())


def error_map(logits: Tensor, model: QualityModel, voxel_ml: float) -> Tensor:
    """Return the calibrated probability that the label is wrong, ``(1, D, H, W)``; 0 far from possible tumour."""
    found = torch.zeros((1, *logits.shape[1:]))
    box, probabilities, label = _calibrated(logits, model, voxel_ml)
    box.of(found)[:] = error_of_label(probabilities, label[0])
    return found


def _calibrated(logits: Tensor, model: QualityModel, voxel_ml: float) -> tuple[Box, Tensor, Tensor]:
    """Return the box of possible tumour, its calibrated probabilities, and its label ``(1, D, H, W)``."""
    box = find_box(logits) or Box((slice(0, 16),) * 3)
    part = torch.nan_to_num(box.of(logits).float().cpu(), nan=-10.0)
    label = clean_label(nest(part, dim=0) > 0, voxel_ml, *model.least_ml)
    return box, region_probabilities(part, model.voxels), label
