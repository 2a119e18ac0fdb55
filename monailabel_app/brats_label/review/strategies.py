"""MONAI Label strategies that select the next patient: in the order of the review queue, or at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from ..errors import ClientError
from .queue import ReviewQueue, Row

EXPECTED_GAIN, RANDOM = "expected_gain", "random"
DESCRIPTIONS = {
    EXPECTED_GAIN: "The patient whose correction is expected to gain most Dice",
    RANDOM: "Any patient without a label",
}
_UNPREDICTED = "at random: no patient that is free has a predicted quality yet"


class PatientStrategy(Strategy):
    """Selects one patient that needs a reader, and leases it to the client.

    The answer is ``{"id", "reason", "score"}``: the reason in words, and the expected gain, None for a random choice.
    It is ``{}`` if no patient needs this reader, or others have leased all that do. No model is run.

    No strategy hands out a leased patient to another client. If no other patient is left, the client gets back a
    patient that it has leased, the longest lease first; clients without ``client_id`` count as one. A patient that two
    readers annotate is handed out to the second once the first has saved a label.

    The request may have ``seed``, a whole number (the same patients and predictions then give the same choice), and
    ``client_id``.

    Args:
        name: a key of ``DESCRIPTIONS``.
        queue: shared by all strategies of a server.

    Raises:
        ClientError: when called with a ``seed`` that is not a whole number, 0 or more.
    """

    def __init__(self, name: str, queue: ReviewQueue) -> None:
        super().__init__(DESCRIPTIONS[name])
        self.name, self.queue = name, queue

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        rng, who = np.random.default_rng(_seed(request)), str(request.get("client_id") or "")
        with self.queue.leases.lock:
            wanted = [row for row in self.queue.rows() if row.open and (who or "unknown") not in row.readers]
            free = [row for row in wanted if row.until is None]
            if free:
                row, reason = self._choose(free, rng)
            else:
                own = [row for row in wanted if row.until is not None and row.editor == who]
                if not own:
                    return {}
                row = min(own, key=lambda row: (row.until, row.case_id))
                reason = "every other patient is labelled or with somebody; you have had this one longest"
            self.queue.leases.grant(row.case_id, self.name, who)
        return {"id": row.case_id, "reason": reason, "score": None if self.name == RANDOM else row.gain}

    def _choose(self, free: Sequence[Row], rng: np.random.Generator) -> tuple[Row, str]:
        best = free[0]  # in the order of the queue
        if self.name == EXPECTED_GAIN and best.gain is not None:
            return best, f"expected mean Dice {1 - best.gain:.2f}: a correction is expected to gain {best.gain:.2f}"
        ordered = sorted(free, key=lambda row: row.case_id)  # so that only the seed decides
        chosen = ordered[rng.integers(len(ordered))]
        return chosen, "drawn at random" if self.name == RANDOM else _UNPREDICTED


def make_strategies(queue: ReviewQueue) -> dict[str, PatientStrategy]:
    """Return all strategies by name, the default first."""
    return {name: PatientStrategy(name, queue) for name in DESCRIPTIONS}


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
