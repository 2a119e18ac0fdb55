"""How sure a mean is, and how well a score tells two groups apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def bootstrap_interval(
    values: Sequence[float], level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float | None, float | None]:
    """Percentile-bootstrap interval of the mean; ``(None, None)`` for fewer than two values."""
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
    """Area under the ROC curve: how probably one of ``higher`` exceeds one of ``lower``, a tie counting half.

    None if one of them is empty.
    """
    if not len(higher) or not len(lower):
        return None
    return float(stats.mannwhitneyu(higher, lower).statistic / (len(higher) * len(lower)))
