"""The fitted numbers behind predicted quality: a few coefficients in a JSON file, for one file of weights."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, WeightsError
from ..evaluation.run_info import sha256_of
from ..labels import REGIONS
from .features import FEATURES
from .voxels import VOXEL_FEATURES

FORMAT = 1
NOT_FITTED = (
    "Predicted quality was not fitted for these weights: it says which answer is better than which, but its figures "
    "may be off. scripts/fit_quality.py fits it."
)


@dataclass(frozen=True)
class QualityModel:
    """Coefficients, all per region in the order WT, TC, ET.

    Attributes:
        voxels: one per ``VOXEL_FEATURES``: a logistic model of the region's probability at a voxel.
        dice: intercept, then one per ``FEATURES``: a logistic model of the Dice.
        dice_spread: half the width of the interval of Dice, in units of ``spread_of``.
        volume_spread: half the width of the interval of the volume, in units of the natural logarithm.
        share: how often truth lies in an interval.
        least_ml: ``min_lesion_ml``, ``min_part_ml`` and ``min_et_ml`` of the answers.
        weights_sha256: of the weights that it was fitted for; "" where it was not.
        fitted: whether it was fitted for the weights in use.
        about: where the numbers come from.
    """

    voxels: Sequence[Sequence[float]] = ((0.0, 1.0, 0.0, 0.0),) * 3
    dice: Sequence[Sequence[float]] = ((0.0, 1.0, *[0.0] * (len(FEATURES) - 1)),) * 3
    dice_spread: Sequence[float] = (1.0, 1.0, 1.0)
    volume_spread: Sequence[float] = (0.7, 0.7, 0.7)
    share: float = 0.8
    least_ml: Sequence[float] = (0.0, 0.0, 0.0)
    weights_sha256: str = ""
    fitted: bool = False
    about: dict[str, Any] = field(default_factory=dict)

    def expected_dice(self, region: int, features: Sequence[float]) -> tuple[float, float, float]:
        """Expected Dice of a region, and the interval that it lies in with probability ``share``."""
        intercept, *rest = self.dice[region]
        total = intercept + sum(c * float(f) for c, f in zip(rest, features, strict=True))
        dice = 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))
        half = self.dice_spread[region] * spread_of(dice)
        return dice, max(0.0, dice - half), min(1.0, dice + half)

    def expected_volume(self, region: int, ml: float) -> tuple[float, float, float]:
        """Expected volume of a region in ml, and its interval."""
        factor = math.exp(self.volume_spread[region])
        return ml, max(0.0, (ml + SMALL_ML) / factor - SMALL_ML), (ml + SMALL_ML) * factor - SMALL_ML

    def to_json(self) -> dict[str, Any]:
        """What ``load_quality`` reads."""
        names = {"format": FORMAT, "regions": list(REGIONS), "voxel_features": VOXEL_FEATURES, "features": FEATURES}
        content = asdict(self)
        del content["fitted"], content["least_ml"]
        return {**names, **content}


SMALL_ML = 0.5  # volumes below it differ by chance: their ratio means nothing


def spread_of(dice: float) -> float:
    """How widely Dice scatters around what is expected: most in the middle, little where all is clear."""
    return math.sqrt(dice * (1 - dice)) + 0.05


def load_quality(
    path: str | os.PathLike,
    checkpoint: str | os.PathLike,
    min_lesion_ml: float = 0.0,
    min_part_ml: float = 0.0,
    min_et_ml: float = 0.0,
) -> QualityModel:
    """Read the coefficients of a bundle.

    Args:
        path: JSON that ``scripts/fit_quality.py`` wrote. Without such a file the answer is judged by the network's own
            probabilities.
        checkpoint: the weights in use. With others than those it was fitted for, ``fitted`` is False.
        min_lesion_ml, min_part_ml, min_et_ml: what the answers leave out, see ``transforms.LogitsToLabeld``.

    Raises:
        InputError: if the file is none of this version.
    """
    least = (min_lesion_ml, min_part_ml, min_et_ml)
    if not Path(path).is_file():
        return QualityModel(least_ml=least)
    expected = (
        f"a file of scripts/fit_quality.py of this version; without it, quality is predicted without a fit: {path}"
    )
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        names = {"format": FORMAT, "regions": [*REGIONS], "voxel_features": [*VOXEL_FEATURES], "features": [*FEATURES]}
        for name, value in names.items():
            if content.pop(name) != value:
                raise ValueError(f"another {name}")
        model = QualityModel(**content, least_ml=least)
        _check(model)
    except (ValueError, KeyError, TypeError, AttributeError) as reason:
        raise InputError(path, f"no such coefficients ({str(reason)[:80]})", expected) from reason
    try:
        fitted = sha256_of(checkpoint) == model.weights_sha256
    except WeightsError:  # who loads them says so
        fitted = False
    return replace(model, fitted=fitted)


def _check(model: QualityModel) -> None:
    lengths = {"voxels": len(VOXEL_FEATURES), "dice": 1 + len(FEATURES)}
    for name in ("voxels", "dice", "dice_spread", "volume_spread"):
        rows = getattr(model, name)
        numbers = [n for row in rows for n in (row if name in lengths else [row])]
        if len(rows) != len(REGIONS) or any(len(row) != lengths[name] for row in rows if name in lengths):
            raise ValueError(f"{name} has another length")
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise ValueError(f"{name} holds what is no number")
