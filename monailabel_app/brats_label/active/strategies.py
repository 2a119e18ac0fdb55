"""Strategies of MONAI Label that hand out patients, by scores that were computed before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from ..case_info import Leases
from ..errors import ClientError
from .cache import ScoreCache
from .choose import ORDERS, Choice, random_order

DESCRIPTIONS = {
    "random": "Any patient without a label",
    "foreground_aware_random": "At random, patients with a predicted tumour first",
    "region_entropy": "Where the network is least sure of the tumour",
    "semantic_diversity": "The patient least like those that are labelled",
    "report_disagreement": "Where report and image disagree, or the report changes the answer most",
    "combined": "Unsure of much, typical of what is not labelled yet, and contested by its report",
}


class PatientStrategy(Strategy):
    """Hands out one patient without a label.

    The answer is ``{"id", "reason", "score"}``: why this patient, in words, and the strategy's score, None where chance
    decided. ``{}`` when every patient is labelled. Nothing is computed but the order: scores come from the cache. A
    patient without scores comes after those with; while there are none at all, chance decides, and the reason says so.

    A patient is handed out once: not again while somebody has it, by whichever strategy. One that comes to no label is
    handed out again after the lease, or when nobody else is left, whom the others had longest first.

    The request may hold ``seed``, a whole number: the same patients and scores then give the same choice; and
    ``client_id``.

    Args:
        name: a key of ``choose.ORDERS``.
        scores: where scores are kept.
        version: the model version in use.
        leases: shared by all strategies of a server.

    Raises:
        ClientError: when called with a ``seed`` that is no whole number.
    """

    def __init__(self, name: str, scores: ScoreCache, version: Callable[[], str], leases: Leases) -> None:
        super().__init__(DESCRIPTIONS[name])
        self.name, self.scores, self.version, self.leases = name, scores, version, leases

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        rng = np.random.default_rng(_seed(request))
        with self.leases.lock:
            unlabelled = datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels"))
            if not unlabelled:
                return {}
            granted = self.leases.granted()
            with_somebody = {case_id for case_id in unlabelled if case_id in granted}
            with_somebody = {case_id for case_id in with_somebody if self.leases.is_current(granted[case_id])}
            free = [case_id for case_id in unlabelled if case_id not in with_somebody]
            if free:
                choice = self._choose(free, with_somebody, request, datastore, rng)
            else:
                longest = min(unlabelled, key=lambda case_id: (granted[case_id].since, case_id))
                choice = Choice(longest, None, "every other patient is labelled or with somebody; this one longest")
            self.leases.grant(choice.case_id, self.name, str(request.get("client_id") or ""))
        return {"id": choice.case_id, "reason": choice.reason, "score": choice.score}

    def _choose(
        self, free: list[str], with_somebody: set[str], request: Mapping, datastore: Datastore, rng: np.random.Generator
    ) -> Choice:
        if self.name == "random":
            return random_order(free, [], rng, 1)[0]
        version = self.version()
        known = self.scores.scores(version)
        scored = {case_id: known[case_id] for case_id in free if case_id in known}
        if not scored:
            reason = "at random: no patient that is free has been scored yet by the model in use"
            return random_order(free, [], rng, 1)[0]._replace(reason=reason)
        labelled: list = []
        if self.name in ("semantic_diversity", "combined"):
            taken = with_somebody | set(datastore.get_labeled_images(request.get("label_tag"), request.get("labels")))
            # A descriptor is CLIP's: it does not depend on the model version, and labelled cases need no new one.
            labelled = [scores.descriptor for scores in self.scores.latest(taken, version).values()]
        return ORDERS[self.name](scored, labelled, rng, 1)[0]


def make_strategies(scores: ScoreCache, version: Callable[[], str], leases: Leases) -> dict[str, PatientStrategy]:
    """All strategies by name.

    Args:
        scores: where scores are kept.
        version: the model version in use.
        leases: who has what.
    """
    return {name: PatientStrategy(name, scores, version, leases) for name in ORDERS}


def _seed(request: Mapping[str, Any]) -> int | None:
    seed = request.get("seed")
    if seed in (None, ""):
        return None
    try:
        number = int(str(seed))
    except ValueError:
        number = -1
    if isinstance(seed, bool) or number < 0:
        raise ClientError(f"seed: found {str(seed)[:40]!r}; expected a whole number, 0 or more.")
    return number
