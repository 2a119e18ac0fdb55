"""Strategies to choose cases for labelling, compared by the simulation; one that beats random belongs in the app.

Each takes the expected gain of a correction by case, a random generator and the number of cases, and returns names,
best first. ``monailabel_app/docs/active_learning.md`` lists those that were removed because they did not beat random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from brats_clip import Segmenter

Pool = Mapping[str, float]


def expected_gain_of(segmenter: Segmenter, files: Mapping, report: str | None) -> float:
    """Segment a case; return 1 minus its mean expected Dice, 0 where the segmenter predicts none."""
    key = segmenter.set_case(**files)
    expected = segmenter.segment(report=report, case=key).expected_dice
    segmenter.forget(key)
    return 1.0 - float(np.mean([*expected.values()])) if expected else 0.0


def random(pool: Pool, rng: np.random.Generator, count: int) -> list[str]:
    """Choose at random, each case with the same probability."""
    ordered = sorted(pool)  # so that the choice depends only on the generator
    return [ordered[i] for i in rng.permutation(len(ordered))][:count]


def expected_gain(pool: Pool, rng: np.random.Generator, count: int) -> list[str]:
    """Choose the cases where a correction is expected to gain most Dice, as the app does."""
    return sorted(random(pool, rng, len(pool)), key=lambda name: -pool[name])[:count]


ORDERS: dict[str, Callable[..., list[str]]] = {order.__name__: order for order in (random, expected_gain)}
