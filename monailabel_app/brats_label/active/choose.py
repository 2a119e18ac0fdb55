"""Which case to label next: scores in, order out. Nothing here knows of files, servers or networks.

Each function of ``ORDERS`` takes the scores of the cases to choose from, by case id, the descriptors of the cases that
are labelled or being labelled, a random generator, and how many are wanted; it returns ``Choice``s, best first. Equal
scores come in the order of a shuffle, so that they do not come in that of the names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from .clip_space import Coverage, Descriptors, Field
from .scores import CaseScores

HALF_ML = 5.0  # of a region: this much of it counts half
CRITERIA = ("doubt", "coverage", "disagreement")


class Choice(NamedTuple):
    """A case, why it was chosen, in words, and its score: the higher the more wanted; None where chance decided."""

    case_id: str
    score: float | None
    reason: str


Scores = Mapping[str, CaseScores]


def random_order(scores: Iterable[str], labelled: Descriptors, rng: np.random.Generator, count: int) -> list[Choice]:
    """Every case is as likely as any other."""
    return [Choice(case_id, None, "drawn at random") for case_id in _shuffled(scores, rng)[:count]]


def foreground_aware_random(
    scores: Scores, labelled: Descriptors, rng: np.random.Generator, count: int
) -> list[Choice]:
    """At random, the more probably the more there is to label; cases without a predicted tumour come last.

    nnActive (2025) draws patches at random but a share of them where there is foreground, and hardly any strategy beats
    that. For patients: drawn without replacement with the weight of ``foreground``.
    """
    ids = _shuffled(scores, rng)
    weights = np.array([foreground(scores[case_id]) for case_id in ids])
    # The keys of Efraimidis and Spirakis (2006): the largest log(u) / w come in the order of a weighted draw.
    luck = np.log1p(-rng.random(len(ids)))
    keys = np.where(weights > 0, luck / np.maximum(weights, 1e-9), -np.inf)
    said = "drawn at random, weighted by the predicted tumour ({:.1f} ml)"
    return [
        Choice(ids[i], float(weights[i]), said.format(scores[ids[i]].volumes_ml["WT"]))
        for i in np.argsort(-keys, kind="stable")[:count]
    ]


def foreground(scores: CaseScores) -> float:
    """How much there is to label, 0 to 1: of each region ml / (ml + 5), then their mean.

    It levels off, so that the largest tumours are not always drawn; and a case with all three regions weighs more.
    """
    return float(np.mean([_share(ml) for ml in scores.volumes_ml.values()]))


def _share(ml: float) -> float:
    return ml / (ml + HALF_ML)


def region_entropy(scores: Scores, labelled: Descriptors, rng: np.random.Generator, count: int) -> list[Choice]:
    """Where the network is least sure of the tumour: the mean over regions of the entropy in and around them."""
    said = "the network is unsure here: entropy {:.2f} of 1 bit in and around the tumour"
    return _best({c: s.mean_entropy for c, s in scores.items()}, said, rng, count)


def report_disagreement(scores: Scores, labelled: Descriptors, rng: np.random.Generator, count: int) -> list[Choice]:
    """Where the report changes the answer most, or contradicts the image."""
    said = "report and image disagree here: {:.2f} of 1"
    return _best({c: s.report_disagreement for c, s in scores.items()}, said, rng, count)


def semantic_diversity(scores: Scores, labelled: Descriptors, rng: np.random.Generator, count: int) -> list[Choice]:
    """Farthest first in CLIP space: the case least like any that is labelled, then the one least like those and it.

    With nothing labelled, the first is the one nearest to the mean of all: a typical one. Cases without a descriptor
    come last.
    """
    ids = _shuffled((c for c in scores if scores[c].descriptor), rng)
    field = Field([scores[c].descriptor for c in ids], labelled)
    chosen: list[Choice] = []
    for _ in range(min(count, len(ids))):
        best = int(np.argmax(field.wanted))
        said = f"unlike the labelled cases: {field.distance[best]:.2f} from the nearest in CLIP space"
        reason = said if field.compared else "typical of all cases in CLIP space; none is labelled"
        chosen.append(Choice(ids[best], float(field.distance[best]), reason))
        field.take(best)
    rest = _shuffled((c for c in scores if not scores[c].descriptor), rng)[: count - len(chosen)]
    return chosen + [Choice(c, None, "drawn at random: it has no descriptor in CLIP space") for c in rest]


def combined(scores: Scores, labelled: Descriptors, rng: np.random.Generator, count: int) -> list[Choice]:
    """Unsure of much, typical of what is not labelled yet, and contested by its report: the mean of three ranks.

    A case's rank by a criterion is the share of the other cases that it exceeds, a tie counting half; so a criterion
    that is the same for all (no case has a report, say) moves nobody, and no scale outweighs another:

        score = (rank of doubt + rank of coverage + rank of disagreement) / 3

    with ``doubt``, with the gain of ``Coverage``, and with ``report_disagreement`` times ``foreground``. Doubt and
    disagreement count by how much there is to label: by themselves they are largest where next to nothing was
    predicted, and choose patients without an enhancing tumour, from which little is learned about it.

    After each choice the gains and their ranks are taken anew, so that a batch does not hold the same case twice over.
    """
    ids = _shuffled(scores, rng)
    fixed = {
        "doubt": ranks([doubt(scores[c]) for c in ids]),
        "disagreement": ranks([scores[c].report_disagreement * foreground(scores[c]) for c in ids]),
    }
    coverage = Coverage([scores[c].descriptor for c in ids], labelled)
    chosen: list[Choice] = []
    left = np.ones(len(ids), bool)
    for _ in range(min(count, len(ids))):
        by = fixed | {"coverage": ranks(coverage.gains())}
        total = np.where(left, sum(by.values()) / len(CRITERIA), -np.inf)
        best = int(np.argmax(total))
        parts = ", ".join(f"{name} {by[name][best]:.0%}" for name in CRITERIA)
        chosen.append(Choice(ids[best], float(total[best]), f"above other cases in {parts}"))
        left[best] = False
        coverage.take(best)
    return chosen


def doubt(scores: CaseScores) -> float:
    """Mean over regions of the entropy in bits, each weighed by how much of the region there is, ml / (ml + 5)."""
    return float(np.mean([bits * _share(scores.volumes_ml[region]) for region, bits in scores.entropy.items()]))


ORDERS: dict[str, Callable[..., list[Choice]]] = {
    "random": random_order,
    "foreground_aware_random": foreground_aware_random,
    "region_entropy": region_entropy,
    "semantic_diversity": semantic_diversity,
    "report_disagreement": report_disagreement,
    "combined": combined,
}


def ranks(values: Sequence[float]) -> np.ndarray:
    """Of each value, the share of the others that it exceeds, a tie counting half; 0.5 for a single one."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return np.full(len(values), 0.5)
    ordered = np.sort(values)
    below, upto = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return (below + (upto - below - 1) / 2) / (len(values) - 1)


def scoring_order(case_ids: Iterable[str], known: Scores, rng: np.random.Generator) -> list[str]:
    """The order to score cases in, for a model version that has scored none of them.

    Those that were most wanted by earlier scores come in turns with those that never had any: the first are likely to
    be wanted again, and the others must not wait for ever.
    """
    ids = list(case_ids)
    earlier = {c: known[c] for c in ids if c in known}
    wanted = [choice.case_id for choice in combined(earlier, [], rng, min(len(earlier), 50))]
    wanted += _shuffled(earlier.keys() - set(wanted), rng)
    new = _shuffled((c for c in ids if c not in known), rng)
    return [c for pair in zip_longest(wanted, new) for c in pair if c is not None]


def _best(values: Mapping[str, float], reason: str, rng: np.random.Generator, count: int) -> list[Choice]:
    order = sorted(_shuffled(values, rng), key=lambda case_id: -values[case_id])[:count]
    return [Choice(case_id, values[case_id], reason.format(values[case_id])) for case_id in order]


def _shuffled(case_ids: Iterable[str], rng: np.random.Generator) -> list[str]:
    """In an order that depends on the generator alone, not on that of ``case_ids``."""
    ids = sorted(case_ids)
    return [ids[i] for i in rng.permutation(len(ids))]
