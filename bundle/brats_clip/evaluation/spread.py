"""Confidence interval of a mean, and how well a score separates two groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def bootstrap_interval(
    values: Sequence[float], level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float | None, float | None]:
    """Return the percentile-bootstrap interval of the mean; ``(None, None)`` for fewer than two values."""
    if len(values) < 2:
        return None, None
    made = stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        batch=1000,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
    return float(made.confidence_interval.low), float(made.confidence_interval.high)


def auc(higher: Sequence[float], lower: Sequence[float]) -> float | None:
    """Return the area under the ROC curve: the probability that a value of ``higher`` exceeds one of ``lower``.

    Ties count half. None if either is empty.
    """
    if not len(higher) or not len(lower):
        return None
    return float(stats.mannwhitneyu(higher, lower).statistic / (len(higher) * len(lower)))
