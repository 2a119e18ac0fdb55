"""Who is annotating what: a patient that was handed out is not handed out again for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from monailabel.interfaces.datastore import Datastore

logger = logging.getLogger(__name__)

LEASE_SECONDS = 2 * 3600.0


class Handed(NamedTuple):
    """When (seconds since 1970) a case was handed out last, and to whom; "" if the client did not say."""

    at: float
    client_id: str


class Served:
    """Remembers which cases were handed out, in the datastore's image info and so over restarts.

    The record is MONAI Label's own: ``info["strategy"][NAME] = {"ts": seconds, "client_id": ...}``. The datastore is
    asked about a case once; after that memory counts, which knows all that is handed out since. Hold ``lock`` from
    looking to noting, so that two annotators who ask at the same moment get different patients.

    Args:
        lease: seconds after which a case that is still without a label may be handed out again.
        clock: seconds since 1970.

    Attributes:
        lock: re-entrant.
    """

    def __init__(self, lease: float = LEASE_SECONDS, clock: Callable[[], float] = time.time) -> None:
        self.lease, self.clock = lease, clock
        self.lock = threading.RLock()
        self._known: dict[str, Handed | None] = {}

    def handed(self, datastore: Datastore, case_ids: Sequence[str]) -> dict[str, Handed]:
        """Which of the cases were handed out, whenever that was."""
        with self.lock:
            for case_id in case_ids:
                if case_id not in self._known:
                    self._known[case_id] = _read(datastore.get_image_info(case_id))
            found = {case_id: self._known[case_id] for case_id in case_ids}
        return {case_id: handed for case_id, handed in found.items() if handed is not None}

    def current(self, handed: Handed) -> bool:
        """Whether the case is still with whoever got it. A time in the future is a clock that was set back."""
        return -60.0 <= self.clock() - handed.at < self.lease

    def note(self, datastore: Datastore, case_id: str, strategy: str, client_id: str) -> None:
        """Write down that a case was handed out now."""
        with self.lock:
            now = self.clock()
            earlier = datastore.get_image_info(case_id).get("strategy")
            records = dict(earlier) if isinstance(earlier, dict) else {}
            records[strategy] = {"ts": int(now), "client_id": client_id}
            self._known[case_id] = Handed(now, client_id)
            try:
                datastore.update_image_info(case_id, {"strategy": records})
            except OSError as reason:  # the patient is handed out all the same; a restart will not know of it
                logger.warning("could not write down who got %s (%s)", case_id, reason.strerror)

    def release(self, case_id: str) -> None:
        """Forget that a case is with somebody: it was labelled, and may be wanted again should the label go."""
        with self.lock:
            self._known[case_id] = None


def _read(info: dict) -> Handed | None:
    """The latest record, of whichever strategy."""
    records = info.get("strategy")
    times = []
    for record in records.values() if isinstance(records, dict) else ():
        at = record.get("ts") if isinstance(record, dict) else None
        if isinstance(at, int | float):
            times.append(Handed(float(at), str(record.get("client_id") or "")))
    return max(times, default=None)
