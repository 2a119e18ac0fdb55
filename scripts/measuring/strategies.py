"""Orders to label cases in, which the simulation of active learning compares; what beats random belongs into the app.

Each takes what a network shows of the cases to choose from, by name, the descriptors of the labelled ones, a random
generator and how many are wanted, and returns names, the most wanted first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from brats_clip import Segmenter

HALF_ML = 5.0  # of a region: this much of it counts half


@dataclass(frozen=True)
class Shown:
    """What a network shows of a case.

    Attributes:
        gain: 1 minus the mean of the expected Dice; 0 where the segmenter predicts none.
        volumes_ml: of each region as predicted.
        descriptor: of the case in CLIP space, of unit norm; empty without the bridge to CLIP.
    """

    gain: float
    volumes_ml: Mapping[str, float]
    descriptor: tuple[float, ...]


Pool = Mapping[str, Shown]


def look(segmenter: Segmenter, files: Mapping, report: str | None) -> Shown:
    """Segment a case and keep what the orders need of it."""
    with _slice_tokens(segmenter) as tokens:
        key = segmenter.set_case(**files)
    answer = segmenter.segment(report=report, case=key)
    expected = list((getattr(answer, "expected_dice", None) or {}).values())
    segmenter.forget(key)
    mean = tokens[-1].float().flatten(0, -2).mean(dim=0) if tokens else torch.zeros(0)
    descriptor = torch.nn.functional.normalize(mean, dim=0).tolist() if tokens else []
    return Shown(1.0 - float(np.mean(expected)) if expected else 0.0, dict(answer.volumes_ml), tuple(descriptor))


def random(pool: Pool, labelled: Sequence, rng: np.random.Generator, count: int) -> list[str]:
    """Every case is as likely as any other."""
    return _shuffled(pool, rng)[:count]


def expected_gain(pool: Pool, labelled: Sequence, rng: np.random.Generator, count: int) -> list[str]:
    """Where a correction is expected to gain most Dice: the app's order."""
    return sorted(_shuffled(pool, rng), key=lambda name: -pool[name].gain)[:count]


def foreground_aware_random(pool: Pool, labelled: Sequence, rng: np.random.Generator, count: int) -> list[str]:
    """At random, with the weight of what there is to label (nnActive, 2025): ml / (ml + 5), mean over the regions."""
    names = _shuffled(pool, rng)
    shares = [[ml / (ml + HALF_ML) for ml in pool[name].volumes_ml.values()] for name in names]
    weights = np.maximum(np.mean(shares, axis=1), 1e-9) if names else np.zeros(0)
    # The keys of Efraimidis and Spirakis (2006): the largest log(u) / w come in the order of a weighted draw.
    return [names[i] for i in np.argsort(-np.log1p(-rng.random(len(names))) / weights, kind="stable")[:count]]


def gain_and_diversity(pool: Pool, labelled: Sequence, rng: np.random.Generator, count: int) -> list[str]:
    """Expected gain times the distance (1 - cosine) in CLIP space to the nearest case that is labelled or chosen."""
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
    """In an order that depends on the generator alone."""
    ordered = sorted(names)
    return [ordered[i] for i in rng.permutation(len(ordered))]


@contextmanager
def _slice_tokens(segmenter: Segmenter) -> Iterator[list[torch.Tensor]]:
    """What the network's slice encoder gives while a case is encoded: the segmenter has no use for it afterwards."""
    tokens: list[torch.Tensor] = []
    encoder = segmenter._network.slice_encoder
    hook = encoder and encoder.register_forward_hook(lambda module, inputs, output: tokens.append(output[0].detach()))
    try:
        yield tokens
    finally:
        if hook:
            hook.remove()
