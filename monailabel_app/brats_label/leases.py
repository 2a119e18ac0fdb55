"""Who is annotating what: a patient that was handed out is not handed out again for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.dialects.sqlite import insert

from .store import Store, leases

logger = logging.getLogger(__name__)

LEASE_SECONDS = 2 * 3600.0


class Lease(NamedTuple):
    """Since when and until when somebody has a case, in seconds since 1970, and who; "" if the client did not say."""

    since: float
    until: float
    client_id: str


class Leases:
    """Keeps who has which case, in the store and so over restarts.

    Hold ``lock`` from looking to granting, so that two annotators who ask at the same moment get different patients.

    Args:
        store: has the table ``leases``.
        seconds: after which a case that is still without a label may be handed out again.
        clock: seconds since 1970.

    Attributes:
        lock: re-entrant.
    """

    def __init__(self, store: Store, seconds: float = LEASE_SECONDS, clock: Callable[[], float] = time.time) -> None:
        self.store, self.seconds, self.clock = store, seconds, clock
        self.lock = threading.RLock()
        self._unwritten: dict[str, Lease] = {}

    def granted(self) -> dict[str, Lease]:
        """The latest lease of every case that was handed out, whenever that was, by whichever strategy."""
        columns = (leases.c.case_id, func.max(leases.c.since), leases.c.until, leases.c.client_id)
        with self.store.read() as connection:  # with max, the other columns are those of its row
            rows = connection.execute(select(*columns).group_by(leases.c.case_id)).all()
        return {case_id: Lease(*lease) for case_id, *lease in rows} | self._unwritten

    def is_current(self, lease: Lease) -> bool:
        """Whether the case is still with whoever got it. A time in the future is a clock that was set back."""
        return lease.since - 60.0 <= self.clock() < lease.until

    def grant(self, case_id: str, strategy: str, client_id: str) -> None:
        """Write down that a case is handed out now."""
        now = self.clock()
        lease = Lease(now, now + self.seconds, client_id)
        row = insert(leases).values(case_id=case_id, strategy=strategy, **lease._asdict())
        with self.lock:
            try:
                with self.store.write() as connection:
                    keys = ["case_id", "strategy"]
                    connection.execute(row.on_conflict_do_update(index_elements=keys, set_=lease._asdict()))
                self._unwritten.pop(case_id, None)
            except OSError as reason:  # the patient is handed out all the same; a restart will not know of it
                self._unwritten[case_id] = lease
                logger.warning("could not write down who got %s (%s)", case_id, reason.strerror)

    def release(self, case_id: str) -> None:
        """End the leases of a case: it was labelled, and may be wanted again should the label go."""
        self._unwritten.pop(case_id, None)
        with self.store.write() as connection:
            connection.execute(update(leases).where(leases.c.case_id == case_id).values(until=0.0))

    def by_strategy(self, case_id: str) -> dict[str, dict[str, Any]]:
        """When each strategy handed a case out last, and to whom, as MONAI Label notes it in the info of an image."""
        with self.store.read() as connection:
            found = connection.execute(select(leases).where(leases.c.case_id == case_id)).all()
        return {row.strategy: {"ts": int(row.since), "client_id": row.client_id} for row in found}
