"""Strategies to choose cases for labelling, compared by the simulation; one that beats random belongs in the app.

Each takes the predictions for the cases to choose from, by name, the descriptors of the labelled cases, a random
generator and the number of cases to choose. It returns names, best first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from brats_clip import Segmenter

HALF_ML = 5.0  # a region of this volume gets a weight of one half


@dataclass(frozen=True)
class CasePrediction:
    """What a network predicts for a case.

    Attributes:
        gain: 1 minus the mean of the expected Dice; 0 where the segmenter predicts none.
        volumes_ml: predicted volume of each region.
        descriptor: unit vector of the case in CLIP space; empty for a network without the bridge to CLIP.
    """

    gain: float
    volumes_ml: Mapping[str, float]
    descriptor: tuple[float, ...]


Pool = Mapping[str, CasePrediction]


def predict_case(segmenter: Segmenter, files: Mapping, report: str | None) -> CasePrediction:
    """Segment a case, and return what the strategies need."""
    with _slice_tokens(segmenter) as tokens:
        key = segmenter.set_case(**files)
    answer = segmenter.segment(report=report, case=key)
    expected = list((getattr(answer, "expected_dice", None) or {}).values())
    segmenter.forget(key)
    mean = tokens[-1].float().flatten(0, -2).mean(dim=0) if tokens else torch.zeros(0)
    descriptor = torch.nn.functional.normalize(mean, dim=0).tolist() if tokens else []
    gain = 1.0 - float(np.mean(expected)) if expected else 0.0
    return CasePrediction(gain, dict(answer.volumes_ml), tuple(descriptor))


def random(pool: Pool, labelled: Sequence, rng: np.random.Generator, count: int) -> list[str]:
    """Choose at random, each case with the same probability."""
    return _shuffled(pool, rng)[:count]


def expected_gain(pool: Pool, labelled: Sequence, rng: np.random.Generator, count: int) -> list[str]:
    """Choose the cases where a correction is expected to gain most Dice, as the app does."""
    return sorted(_shuffled(pool, rng), key=lambda name: -pool[name].gain)[:count]


def foreground_aware_random(pool: Pool, labelled: Sequence, rng: np.random.Generator, count: int) -> list[str]:
    """Choose at random, weighted by predicted volume (nnActive, 2025): ml / (ml + 5), mean over the regions."""
    names = _shuffled(pool, rng)
    shares = [[ml / (ml + HALF_ML) for ml in pool[name].volumes_ml.values()] for name in names]
    weights = np.maximum(np.mean(shares, axis=1), 1e-9) if names else np.zeros(0)
    # Efraimidis and Spirakis (2006): sorting by log(u) / w, largest first, is a weighted draw without replacement.
    return [names[i] for i in np.argsort(-np.log1p(-rng.random(len(names))) / weights, kind="stable")[:count]]


def gain_and_diversity(pool: Pool, labelled: Sequence, rng: np.random.Generator, count: int) -> list[str]:
    """Rank by expected gain times the distance (1 - cosine) in CLIP space to the nearest labelled or chosen case."""
    names, known = _shuffled(pool, rng), [np.asarray(d) for d in labelled if len(d)]
    chosen: list[str] = []
    for _ in range(min(count, len(names))):
        left = [name for name in names if name not in chosen]
        best = max(left, key=lambda name: pool[name].gain * _distance(pool[name].descriptor, known))
        chosen.append(best)
        known += [np.asarray(pool[best].descriptor)] if pool[best].descriptor else []
    return chosen


ORDERS: dict[str, Callable[..., list[str]]] = {
    order.__name__: order for order in (random, expected_gain, foreground_aware_random, gain_and_diversity)
}


def _distance(descriptor: Sequence[float], known: Sequence[np.ndarray]) -> float:
    comparable = [other for other in known if len(other) == len(descriptor)]
    return 1.0 - max(float(np.dot(descriptor, other)) for other in comparable) if comparable else 1.0


def _shuffled(names: Pool, rng: np.random.Generator) -> list[str]:
    """Return the names in an order that depends only on the generator."""
    ordered = sorted(names)
    return [ordered[i] for i in rng.permutation(len(ordered))]


@contextmanager
def _slice_tokens(segmenter: Segmenter) -> Iterator[list[torch.Tensor]]:
    """Collect the output of the slice encoder while a case is encoded, since the segmenter does not keep it."""
    tokens: list[torch.Tensor] = []
    encoder = segmenter._network.slice_encoder
    hook = encoder and encoder.register_forward_hook(lambda module, inputs, output: tokens.append(output[0].detach()))
    try:
        yield tokens
    finally:
        if hook:
            hook.remove()
