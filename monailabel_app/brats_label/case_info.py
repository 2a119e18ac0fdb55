"""Metadata of cases and labels for clients, notes on them, and leases: who is annotating which case."""

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

logger = logging.getLogger(__name__)

LEASE_SECONDS = 2 * 3600.0  # then a case that still has no label may be leased again


class Notes:
    """Stores notes (plain JSON) by section and key, such as "images" and a case id. Safe for threads and processes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, section: str, key: str) -> dict[str, Any]:
        """Return the notes; empty if there are none."""
        with self._store.read() as connection:
            return connection.scalar(_content(section, key)) or {}

    def update(self, section: str, key: str, notes: Mapping[str, Any]) -> None:
        """Merge ``notes`` into the stored notes, durably; values of the same name are replaced.

        Raises:
            Refused: if ``notes`` is not a mapping of plain JSON.
            OSError: if the notes cannot be written; the stored ones stay.
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
    """Return which images were chosen and why, which are missing or left out, and the notes. Opens no image."""
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
    """Return who saved the label, when and with which model, its volumes, and the notes."""
    info = {"name": f"{case.case_id}{ENDING}", "version": revision.number, **revision.record, **notes}
    drawn_on = revision.record.get("reference", case.reference)
    if drawn_on != case.reference:
        info["resampled"] = f"Stored on the grid of {drawn_on}, resampled to that of {case.reference}."
    return info


class Lease(NamedTuple):
    """Start and end of a lease, in seconds since 1970, and the id of the client; "" if the client gave none."""

    since: float
    until: float
    client_id: str


class Leases:
    """Leases of cases, kept in the store so that they survive a restart.

    Hold ``lock`` while choosing a case and leasing it, so that two clients that ask at once get different cases.

    Args:
        store: has the table ``leases``.
        clock: returns the seconds since 1970.

    Attributes:
        lock: re-entrant.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.store, self.clock = store, clock
        self.lock = threading.RLock()
        self._unwritten: dict[str, Lease] = {}

    def granted(self) -> dict[str, Lease]:
        """Return the latest lease of each case, current or expired, by any strategy."""
        columns = (leases.c.case_id, func.max(leases.c.since), leases.c.until, leases.c.client_id)
        with self.store.read() as connection:  # SQLite takes the other columns from the row with the maximum
            rows = connection.execute(select(*columns).group_by(leases.c.case_id)).all()
        return {case_id: Lease(*lease) for case_id, *lease in rows} | self._unwritten

    def is_current(self, lease: Lease) -> bool:
        """Return whether a lease is current. One that starts over 60 s in the future is not: the clock was set back."""
        return lease.since - 60.0 <= self.clock() < lease.until

    def grant(self, case_id: str, strategy: str, client_id: str) -> None:
        """Lease a case to a client from now on."""
        now = self.clock()
        lease = Lease(now, now + LEASE_SECONDS, client_id)
        row = insert(leases).values(case_id=case_id, strategy=strategy, **lease._asdict())
        with self.lock:
            try:
                with self.store.write() as connection:
                    keys = ["case_id", "strategy"]
                    connection.execute(row.on_conflict_do_update(index_elements=keys, set_=lease._asdict()))
                self._unwritten.pop(case_id, None)
            except OSError as reason:  # lease the case anyway; the lease is lost on a restart
                self._unwritten[case_id] = lease
                logger.warning("the lease of case %s could not be stored (%s)", case_id, reason.strerror)

    def release(self, case_id: str) -> None:
        """End the leases of a case, so that it can be leased again: if its label is removed, for instance."""
        self._unwritten.pop(case_id, None)
        with self.store.write() as connection:
            connection.execute(update(leases).where(leases.c.case_id == case_id).values(until=0.0))

    def seconds_held(self, case_id: str, client_id: str) -> float | None:
        """Return for how long this client has leased the case; None if it has no current lease."""
        lease = self.granted().get(case_id)
        if lease is None or lease.client_id != client_id or not self.is_current(lease):
            return None
        return max(0.0, self.clock() - lease.since)

    def by_strategy(self, case_id: str) -> dict[str, dict[str, Any]]:
        """Return when each strategy last leased a case and to whom, as in MONAI Label's image info."""
        with self.store.read() as connection:
            found = connection.execute(select(leases).where(leases.c.case_id == case_id)).all()
        return {row.strategy: {"ts": int(row.since), "client_id": row.client_id} for row in found}
