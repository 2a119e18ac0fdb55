"""The fitted coefficients of predicted quality, in a JSON file that belongs to one file of weights."""

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
    "Predicted quality was not fitted for these weights: it can rank segmentations, but its absolute values may be "
    "wrong. Run scripts/fit_quality.py to fit it."
)


@dataclass(frozen=True)
class QualityModel:
    """Coefficients, all per region in the order WT, TC, ET.

    Attributes:
        voxels: one per ``VOXEL_FEATURES``: a logistic model of the region's probability at a voxel.
        dice: intercept, then one per ``FEATURES``: a logistic model of the Dice.
        dice_spread: half the width of the Dice interval, in units of ``spread_of``.
        volume_spread: half the width of the volume interval, in units of the natural logarithm.
        coverage: how often the true value lies in its interval.
        least_ml: ``min_lesion_ml``, ``min_part_ml`` and ``min_et_ml`` of the segmentations.
        weights_sha256: of the weights that the model was fitted for; "" if it was not fitted.
        fitted: whether the model was fitted for the weights in use.
        about: where the coefficients come from.
    """

    voxels: Sequence[Sequence[float]] = ((0.0, 1.0, 0.0, 0.0),) * 3
    dice: Sequence[Sequence[float]] = ((0.0, 1.0, *[0.0] * (len(FEATURES) - 1)),) * 3
    dice_spread: Sequence[float] = (1.0, 1.0, 1.0)
    volume_spread: Sequence[float] = (0.7, 0.7, 0.7)
    coverage: float = 0.8
    least_ml: Sequence[float] = (0.0, 0.0, 0.0)
    weights_sha256: str = ""
    fitted: bool = False
    about: dict[str, Any] = field(default_factory=dict)

    def expected_dice(self, region: int, features: Sequence[float]) -> tuple[float, float, float]:
        """Return the expected Dice of a region, and its prediction interval of probability ``coverage``."""
        intercept, *rest = self.dice[region]
        total = intercept + sum(c * float(f) for c, f in zip(rest, features, strict=True))
        dice = 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))
        half = self.dice_spread[region] * spread_of(dice)
        return dice, max(0.0, dice - half), min(1.0, dice + half)

    def expected_volume(self, region: int, ml: float) -> tuple[float, float, float]:
        """Return the expected volume of a region in ml, and its prediction interval."""
        factor = math.exp(self.volume_spread[region])
        return ml, max(0.0, (ml + SMALL_ML) / factor - SMALL_ML), (ml + SMALL_ML) * factor - SMALL_ML

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file that ``load_quality`` reads."""
        names = {"format": FORMAT, "regions": list(REGIONS), "voxel_features": VOXEL_FEATURES, "features": FEATURES}
        content = asdict(self)
        del content["fitted"], content["least_ml"]
        return {**names, "share": content.pop("coverage"), **content}


SMALL_ML = 0.5  # ratios of smaller volumes are mostly noise


def spread_of(dice: float) -> float:
    """Return how widely Dice scatters around its expected value: most at 0.5, least near 0 and 1."""
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
        path: JSON from ``scripts/fit_quality.py``. Files beside it named ``quality_NAME.json`` belong to other weights.
            If there is no such file, the quality is predicted from the network's own probabilities, without a fit.
        checkpoint: the weights in use. ``fitted`` is False if no file was fitted for them; ``path`` is then used.
        min_lesion_ml, min_part_ml, min_et_ml: how segmentations are cleaned, see ``transforms.LogitsToLabeld``.

    Raises:
        InputError: if a file is damaged or of another version.
    """
    path, least = Path(path), (min_lesion_ml, min_part_ml, min_et_ml)
    if not path.is_file():
        return QualityModel(least_ml=least)
    try:
        sha = sha256_of(checkpoint)
    except WeightsError:  # reported where the weights are loaded
        sha = ""
    for other in sorted(path.parent.glob(f"{path.stem}_*.json")):
        if sha and sha in other.read_text(encoding="utf-8", errors="replace"):
            path = other
    model = _read(path, least)
    return replace(model, fitted=bool(sha) and model.weights_sha256 == sha)


def _read(path: Path, least: tuple[float, float, float]) -> QualityModel:
    expected = f"a file of scripts/fit_quality.py of this version; to predict quality without a fit, remove {path}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {"format": FORMAT, "regions": [*REGIONS], "voxel_features": [*VOXEL_FEATURES], "features": [*FEATURES]}
        for name, value in names.items():
            if content.pop(name) != value:
                raise ValueError(f"different {name}")
        model = QualityModel(coverage=content.pop("share"), **content, least_ml=least)
        _check(model)
    except (ValueError, KeyError, TypeError, AttributeError) as reason:
        raise InputError(path, f"unusable coefficients ({str(reason)[:80]})", expected) from reason
    return model


def _check(model: QualityModel) -> None:
    lengths = {"voxels": len(VOXEL_FEATURES), "dice": 1 + len(FEATURES)}
    for name in ("voxels", "dice", "dice_spread", "volume_spread"):
        rows = getattr(model, name)
        numbers = [n for row in rows for n in (row if name in lengths else [row])]
        if len(rows) != len(REGIONS) or any(len(row) != lengths[name] for row in rows if name in lengths):
            raise ValueError(f"{name} has the wrong length")
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise ValueError(f"{name} has values that are not numbers")
