"""Labels on their way to the DICOM server: delivered when they are saved, and again until the server has them."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Sequence

import nibabel as nib
from sqlalchemy import Row, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from ..errors import ClientError, Unreachable
from ..store import Store, outbox
from ..studies import Case
from ..studies.disk_cache import KeyedLocks
from . import FINAL, Revision
from .store import LabelStore

logger = logging.getLogger(__name__)


class Outbox:
    """Keeps the DICOM server up to date with the newest final label of each case.

    A case has a row while the server lacks its newest label. The row is written before the label is stored and goes
    once the server has the label, so that neither an outage nor a killed process loses a delivery. Of several labels
    that the server missed it gets the newest. Safe to use from several threads.

    Args:
        store: has the table ``outbox``.
        labels: where the labels are.
        find: the case with an id.
        put: delivers a label: case, label on the reference grid, revision. Twice the same must do no harm.
        withdraw: takes labels of a case back that are no longer in use; returns what to tell people.
    """

    def __init__(
        self,
        store: Store,
        labels: LabelStore,
        find: Callable[[str], Case],
        put: Callable[[Case, nib.Nifti1Image, Revision], object],
        withdraw: Callable[[Case, Sequence[Revision]], Sequence[str]] | None = None,
    ) -> None:
        self._store, self._labels, self._find, self._put, self._withdraw = store, labels, find, put, withdraw
        self._delivering, self._retrying = KeyedLocks(), threading.Lock()

    def add(self, case_id: str) -> None:
        """Note that the label of a case is about to change."""
        values = {"token": uuid.uuid4().hex, "attempts": 0, "problem": ""}
        row = insert(outbox).values(case_id=case_id, **values)
        with self._store.write() as connection:
            connection.execute(row.on_conflict_do_update(index_elements=["case_id"], set_=values))

    def deliver(self, case_id: str) -> list[str]:
        """Deliver the newest label of a case, or withdraw it if it was removed; nothing if the server is up to date.

        Returns:
            What to tell people.

        Raises:
            ClientError: if it cannot be done now; ``retry`` tries again.
        """
        with self._delivering(case_id):
            entry = next(iter(self._entries(outbox.c.case_id == case_id)), None)
            if entry is None:
                return []
            same = (outbox.c.case_id == case_id) & (outbox.c.token == entry.token)
            revision = self._labels.current(case_id, FINAL)
            try:
                notes = self._deliver(case_id, revision)
            except Exception as reason:
                says = reason.sentence if isinstance(reason, ClientError) else f"{type(reason).__name__}, see the log"
                with self._store.write() as connection:
                    connection.execute(update(outbox).where(same).values(attempts=entry.attempts + 1, problem=says))
                raise
            if self._labels.current(case_id, FINAL) == revision:  # else there is a newer one to deliver
                with self._store.write() as connection:
                    connection.execute(delete(outbox).where(same))
            return notes

    def retry(self) -> None:
        """Deliver what the server has missed; stops where it does not answer."""
        if not self._retrying.acquire(blocking=False):
            return
        try:
            for entry in self._entries():
                try:
                    self.deliver(entry.case_id)
                    logger.info("label of case %s was delivered after %d attempts", entry.case_id, entry.attempts + 1)
                except Unreachable as reason:
                    logger.warning("labels wait in the outbox: %s", reason)
                    return
                except Exception as reason:  # the others must not wait for it
                    if not isinstance(reason, ClientError):
                        logger.exception("label of case %s was not delivered", entry.case_id)
        finally:
            self._retrying.release()

    def retry_in_background(self) -> None:
        """``retry``, without waiting for it."""
        if self._entries():
            threading.Thread(target=self.retry, name="outbox", daemon=True).start()

    def problems(self) -> list[str]:
        """A sentence for each label that could not be delivered yet."""
        return [
            f"The label of case {entry.case_id} is not on the DICOM server yet: {entry.problem}"
            for entry in self._entries(outbox.c.problem != "")
        ]

    def _deliver(self, case_id: str, revision: Revision | None) -> list[str]:
        if revision is not None:
            self._put(self._find(case_id), nib.load(revision.path), revision)
            return []
        delivered = [old for old in self._labels.history(case_id) if old.tag == FINAL and not old.removed]
        if not delivered or self._withdraw is None:
            return []
        return list(self._withdraw(self._find(case_id), delivered))

    def _entries(self, *where) -> Sequence[Row]:
        with self._store.read() as connection:
            return connection.execute(select(outbox).where(*where).order_by(outbox.c.case_id)).all()
