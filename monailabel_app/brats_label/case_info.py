"""What clients are told about a case and its label, what is noted about them, and who is annotating what."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.dialects.sqlite import insert

from .errors import Refused
from .labels import ENDING, TAGS, Revision
from .labels.store import LabelStore
from .store import Store, leases
from .store import notes as table
from .studies import Case


class Notes:
    """Plain JSON by section and key, such as "images" and a case id. Safe for threads and processes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, section: str, key: str) -> dict[str, Any]:
        """What was noted; empty if nothing was."""
        with self._store.read() as connection:
            return connection.scalar(_content(section, key)) or {}

    def update(self, section: str, key: str, notes: Mapping[str, Any]) -> None:
        """Add to what was noted, durably; equal names are replaced.

        Raises:
            Refused: if it is no mapping of plain JSON.
            OSError: if it cannot be written; it is not noted then.
        """
        try:
            notes = json.loads(json.dumps(dict(notes), allow_nan=False, ensure_ascii=False).encode())
        except (TypeError, ValueError):
            raise Refused("The info cannot be stored; expected a JSON object of text, numbers and lists.") from None
        with self._store.write() as connection:
            content = {**(connection.scalar(_content(section, key)) or {}), **notes}
            row = insert(table).values(section=section, key=key, content=content)
            connection.execute(row.on_conflict_do_update(index_elements=["section", "key"], set_={"content": content}))


def _content(section: str, key: str):
    return select(table.c.content).where(table.c.section == section, table.c.key == key)


def image_info(case: Case, sequence: str, labels: LabelStore, notes: Mapping[str, Any]) -> dict[str, Any]:
    """Which images were chosen and why, what is missing and left out, and what was noted. Opens no image."""
    shown = case.images[sequence]
    return {
        **case.info,
        "name": f"{shown.image_id}{ENDING}",
        "case": case.case_id,
        "patient": case.patient,
        "image": shown.image_id,
        "sequence": sequence,
        "reference": case.reference,
        "sequences": {
            s: {"image": image.image_id, "name": image.name, "reason": image.reason} for s, image in case.images.items()
        },
        "missing": list(case.missing),
        "left_out": [{"image": i.image_id, "name": i.name, "reason": i.reason} for i in case.left_out],
        "labels": {tag: v.number for tag in TAGS if (v := labels.current(case.case_id, tag))},
        **notes,
    }


def label_info(case: Case, revision: Revision, notes: Mapping[str, Any]) -> dict[str, Any]:
    """Who saved it and when, with which model, its volumes, and what was noted."""
    info = {"name": f"{case.case_id}{ENDING}", "version": revision.number, **revision.record, **notes}
    drawn_on = revision.record.get("reference", case.reference)
    if drawn_on != case.reference:
        info["resampled"] = f"Stored on the grid of {drawn_on}, resampled to that of {case.reference}."
    return info


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

    def seconds_held(self, case_id: str, client_id: str) -> float | None:
        """Since this client was given the case; None if it has no lease on it."""
        lease = self.granted().get(case_id)
        if lease is None or lease.client_id != client_id or not self.is_current(lease):
            return None
        return max(0.0, self.clock() - lease.since)

    def by_strategy(self, case_id: str) -> dict[str, dict[str, Any]]:
        """When each strategy handed a case out last, and to whom, as MONAI Label notes it in the info of an image."""
        with self.store.read() as connection:
            found = connection.execute(select(leases).where(leases.c.case_id == case_id)).all()
        return {row.strategy: {"ts": int(row.since), "client_id": row.client_id} for row in found}
