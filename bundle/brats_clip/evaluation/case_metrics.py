"""All metrics of one case as one flat row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import LabelError
from ..labels import ED, ET, NCR, REGIONS, few
from .lesionwise import lesionwise
from .metrics import crop_to_union, dice, hd95, sensitivity, volume_ml

MEASURES = (*REGIONS, "mean")
_AVERAGED = ("dice_{}", "hd95_{}", "lesionwise_dice_{}")


def region_volumes_ml(label: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """Return the volume of each region of a label map ``(X, Y, Z)`` in ml; ``spacing`` in mm."""
    return {region: volume_ml(np.isin(label, values), spacing) for region, values in REGIONS.items()}


def region_dice(prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Return Dice per region and their mean, as ``case_metrics`` does, but without its slow metrics.

    Args:
        prediction, label: label maps ``(X, Y, Z)`` with 0, 1, 2 and 4.
    """
    prediction, label = crop_to_union(prediction, label)
    found = {f"dice_{r}": dice(np.isin(prediction, values), np.isin(label, values)) for r, values in REGIONS.items()}
    return found | {"dice_mean": sum(found.values()) / len(found)}


def case_metrics(prediction: np.ndarray, label: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """Score a predicted label map against the true one.

    Args:
        prediction, label: label maps ``(X, Y, Z)`` in the case's own geometry, values 0, 1, 2, 4.
        spacing: voxel size in mm along the three axes.

    Returns:
        A row of ``dice_R``, ``hd95_R`` (mm), ``sensitivity_R``, ``lesionwise_dice_R``, the numbers of lesions
        ``lesions_R_truth``, ``lesions_R_missed`` and ``lesions_R_false``, and ``volume_ml_R`` (predicted) and
        ``volume_ml_R_truth``, for R in WT, TC, ET; ``dice_mean``, ``hd95_mean`` and ``lesionwise_dice_mean`` are
        over the three.

    Raises:
        LabelError: if the maps differ in shape, are not 3D, or hold other values.
    """
    prediction, label = np.asarray(prediction), np.asarray(label)
    if prediction.ndim != 3 or prediction.shape != label.shape:
        raise LabelError("prediction", f"shape {prediction.shape}", f"the shape of the true label, {label.shape}, 3D")
    if len(spacing) != 3 or min(spacing) <= 0:
        raise LabelError("spacing", f"{tuple(spacing)}", "three voxel sizes in mm above zero")
    prediction, label = crop_to_union(prediction, label)
    for where, values in (("prediction", np.unique(prediction)), ("label", np.unique(label))):
        if not np.isin(values, (0, NCR, ED, ET)).all():
            raise LabelError(where, f"label values {few(values.tolist())}", "0, 1, 2 and 4 (see brats_clip.labels)")

    row: dict[str, float] = {}
    per_region = {region: _region_metrics(prediction, label, region, spacing) for region in REGIONS}
    for column in next(iter(per_region.values())):
        row.update({column.format(region): figures[column] for region, figures in per_region.items()})
        if column in _AVERAGED:
            row[column.format("mean")] = float(np.mean([figures[column] for figures in per_region.values()]))
    return row


def _region_metrics(prediction: np.ndarray, label: np.ndarray, region: str, spacing: Sequence[float]) -> dict:
    mask, truth = (np.isin(m, REGIONS[region]) for m in (prediction, label))
    lesions = lesionwise(mask, truth, spacing)
    return {
        "dice_{}": dice(mask, truth),
        "hd95_{}": hd95(mask, truth, spacing),
        "sensitivity_{}": sensitivity(mask, truth),
        "lesionwise_dice_{}": lesions.dice,
        "lesions_{}_truth": lesions.truth,
        "lesions_{}_missed": lesions.missed,
        "lesions_{}_false": lesions.false,
        "volume_ml_{}": volume_ml(mask, spacing),
        "volume_ml_{}_truth": volume_ml(truth, spacing),
    }
