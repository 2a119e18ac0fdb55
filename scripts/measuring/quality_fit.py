"""Fit the coefficients of the quality prediction, and predict each case with held-out coefficients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import CalibrationErrorMetric
from scipy.optimize import minimize
from scipy.special import expit

from brats_clip.geometry import Grid
from brats_clip.labels import REGIONS, label_to_regions
from brats_clip.quality import Assessment, QualityModel, assess
from brats_clip.quality.features import case_features
from brats_clip.quality.model import SMALL_ML, spread_of
from brats_clip.quality.voxels import coarse_of, region_probabilities

from .quality_data import Record

COVERAGE = 0.8  # of true values that should lie in the intervals
RIDGE = 1.0  # penalty for the distance from the unfitted coefficients, after scaling; in cases
REAL_WEIGHT = 3.0  # weight of a scan relative to a phantom


def fit(records: Sequence[Record], least_ml: Sequence[float]) -> QualityModel:
    """Fit the coefficients to all ``records``; see ``QualityModel``."""
    voxels = [_fit_voxels(records, region) for region in range(len(REGIONS))]
    model = QualityModel(voxels=voxels, coverage=COVERAGE, least_ml=least_ml)
    features, volumes = zip(*(_features(record, model) for record in records), strict=True)
    features, volumes = np.stack(features), np.stack(volumes)
    dice, truth = (np.stack([getattr(r, name) for r in records]) for name in ("dice", "volume_ml"))
    answers = Counter((record.case, record.real) for record in records)  # answers for one case share its weight
    weights = np.array([_weight(record) / answers[record.case, record.real] for record in records])
    start = model.dice
    rows = [_logistic(features[:, i], dice[:, i], weights, start[i]) for i in range(len(REGIONS))]
    expected, groups = np.zeros_like(dice), np.array([record.group for record in records])
    for group in set(groups):  # held out, since residuals on fitted answers would be too small
        mine, rest = groups == group, groups != group
        rest = rest if rest.any() else mine
        for i in range(len(REGIONS)):
            row = _logistic(features[rest, i], dice[rest, i], weights[rest], start[i])
            expected[mine, i] = expit(row[0] + features[mine, i] @ row[1:])
    spread = np.abs(dice - expected) / np.vectorize(spread_of)(expected)
    ratio = np.abs(np.log((truth + SMALL_ML) / (volumes + SMALL_ML)))
    return QualityModel(
        voxels=voxels,
        dice=rows,
        dice_spread=[_quantile(spread[:, i], weights) for i in range(len(REGIONS))],
        volume_spread=[_quantile(ratio[:, i], weights) for i in range(len(REGIONS))],
        coverage=COVERAGE,
        least_ml=least_ml,
        fitted=True,
    )


def held_out(records: Sequence[Record], least_ml: Sequence[float]) -> list[tuple[Record, QualityModel]]:
    """Return each record with the coefficients that were fitted without its group."""
    found = []
    for group in dict.fromkeys(record.group for record in records):
        others = [record for record in records if record.group != group]
        model = fit(others or records, least_ml)
        found += [(record, model) for record in records if record.group == group]
    return found


def predict(record: Record, model: QualityModel) -> Assessment:
    """Return the assessment that ``Segmenter`` would give for this answer."""
    logits, corner = torch.from_numpy(record.logits).float(), record.corner
    whole = torch.full((3, *(2 * n for n in record.brain.shape)), -10.0)
    whole[(slice(None), *(slice(c, c + n) for c, n in zip(corner, logits.shape[1:], strict=True)))] = logits
    return assess(whole, torch.from_numpy(record.brain), record.geometry, model, record.known)


def calibration_error(record: Record, model: QualityModel) -> dict[str, float]:
    """Return the expected calibration error per region, of brain voxels and of those in doubt (1 % to 99 %)."""
    probabilities = region_probabilities(torch.from_numpy(record.logits).float(), model.voxels)
    truth = label_to_regions(torch.from_numpy(record.truth)[None])
    low, high = record.corner // 2, (record.corner + record.truth.shape) // 2
    brain = torch.from_numpy(record.brain[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
    for axis in range(3):
        brain = brain.repeat_interleave(2, dim=axis)
    p, t = probabilities[:, brain], truth[:, brain]
    rest = max(0, record.inside - p.shape[1])  # outside the box, where the probability is taken as 0
    missed = torch.zeros(3, rest)
    for region, count in enumerate(record.outside):
        missed[region, : int(count)] = 1
    found = {}
    whole = _error(torch.cat([p, torch.zeros(3, rest)], dim=1), torch.cat([t, missed], dim=1))
    for region, name in enumerate(REGIONS):
        doubt = (p[region] > 0.01) & (p[region] < 0.99)
        found[f"ece_{name}"] = whole[region]
        found[f"ece_doubt_{name}"] = _error(p[region : region + 1, doubt], t[region : region + 1, doubt])[0]
    return found


def _error(probabilities: torch.Tensor, truth: torch.Tensor) -> list[float]:
    metric = CalibrationErrorMetric(num_bins=20, metric_reduction="none")
    metric(y_pred=probabilities[None], y=truth[None])
    return metric.aggregate()[0].tolist()


def _features(record: Record, model: QualityModel) -> tuple[np.ndarray, np.ndarray]:
    voxel_ml = Grid(record.label.shape, record.geometry.affine).voxel_ml
    probabilities = region_probabilities(torch.from_numpy(record.logits).float(), model.voxels)
    coarse = coarse_of(probabilities, torch.from_numpy(record.label))
    rows, expected, _ = case_features(coarse, voxel_ml, record.known)
    return rows.numpy(), expected.numpy()


def _fit_voxels(records: Sequence[Record], region: int) -> list[float]:
    """Fit a logistic model; the weight of a case does not depend on the size of its tumour."""
    x = np.concatenate([record.rows[region] for record in records])
    y = np.concatenate([record.targets[region] for record in records])
    w = np.concatenate([_weight(record) * _shares(record.weights[region]) for record in records])
    used = w > 0
    return _logistic(x[used], y[used], w[used] / w[used].mean(), QualityModel().voxels[region])


def _weight(record: Record) -> float:
    return REAL_WEIGHT if record.real else 1.0


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts / max(counts.sum(), 1)


def _logistic(x: np.ndarray, share: np.ndarray, weights: np.ndarray, start: Sequence[float]) -> list[float]:
    """Fit intercept and coefficients of a logistic model of shares in [0, 1], regularised towards ``start``."""
    x, start = x.astype(np.float64), np.asarray(start, np.float64)
    mean, scale = np.average(x, axis=0, weights=weights), x.std(axis=0)
    varies = scale > 1e-6  # constant features carry no information
    scale = np.where(varies, scale, 1.0)
    scaled, prior = np.where(varies, (x - mean) / scale, 0.0), start[1:] * scale

    def loss(c: np.ndarray) -> tuple[float, np.ndarray]:
        z = c[0] + scaled @ c[1:]
        value = weights @ (np.logaddexp(0, z) - share * z) + RIDGE / 2 * ((c[1:] - prior) ** 2).sum()
        slope = weights * (expit(z) - share)
        return value, np.concatenate([[slope.sum()], scaled.T @ slope + RIDGE * (c[1:] - prior)])

    # If all shares are 1, the best intercept is infinite.
    bounds = [(-8.0, 8.0), *[(None, None)] * len(prior)]
    found = minimize(loss, [0.0, *prior], jac=True, method="L-BFGS-B", bounds=bounds).x
    coefficients = found[1:] / scale
    return [float(found[0] - coefficients @ np.where(varies, mean, 0.0)), *map(float, coefficients)]


def _quantile(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    share = COVERAGE * (1 + 1 / len(values))  # as in conformal prediction: few answers contain no extreme ones
    place = np.searchsorted(np.cumsum(weights[order]) / weights.sum(), share)
    return float(values[order][min(place, len(values) - 1)])
