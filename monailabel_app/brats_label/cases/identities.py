"""What each case and its patient are called: decided when the case is first seen, for ever."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from .. import store as tables
from ..store import Store

__all__ = ["Identities", "Identity"]

logger = logging.getLogger(__name__)


class Identity(NamedTuple):
    """The id of a case, under which its labels lie, and the key of its patient, by which it is drawn to a side."""

    case_id: str
    patient: str


class Identities:
    """Remembers the identity of each place, a place being what makes a case the same tomorrow: where its files lie
    among the studies, or its StudyInstanceUID.

    What was given stays, also when other cases come, when a place gets more images, and when it goes: an id is never
    given to another place, which would then have the labels of the first. Safe to use from several threads and
    processes.

    Args:
        store: keeps them; None for memory alone.
        write: False to read it only.

    Raises:
        InputError: if the store is damaged. Ids are not invented anew: labels might come to another patient.
    """

    def __init__(self, store: Store | None = None, write: bool = True) -> None:
        self._store, self._write = store, write
        self._lock = threading.Lock()
        self._known: dict[str, Identity] = {}
        if store is not None:
            with store.read() as connection:
                self._known = _read(connection)

    def of(
        self, places: Sequence[str], invent: Callable[[list[int], frozenset[str]], Sequence[Identity]]
    ) -> list[Identity]:
        """The identity of each place; new ones get theirs now.

        Args:
            places: each once.
            invent: called with the indices of new places and the ids that are taken; returns their identities.
        """
        with self._lock:
            if any(place not in self._known for place in places):
                self._add(places, invent)
            return [self._known[place] for place in places]

    def _add(self, places: Sequence[str], invent: Callable) -> None:
        if self._store is None or not self._write:
            self._invent(places, invent)
            return
        try:
            with self._store.write() as connection:
                stored = _read(connection)
                self._known |= stored
                self._invent(places, invent)
                new = {place: identity for place, identity in self._known.items() if place not in stored}
                if not new:  # another process was faster
                    return
                patients = [{"patient": identity.patient} for identity in new.values()]
                connection.execute(insert(tables.patients).on_conflict_do_nothing(), patients)
                rows = [{"place": place, **identity._asdict()} for place, identity in new.items()]
                connection.execute(insert(tables.cases), rows)
        except OSError as reason:  # the cases can be used all the same; they are written with the next new one
            self._invent(places, invent)
            logger.error("new cases could not be written down (%s): ids may change after a restart", reason)

    def _invent(self, places: Sequence[str], invent: Callable) -> None:
        new = [index for index, place in enumerate(places) if place not in self._known]
        if new:
            taken = frozenset(identity.case_id for identity in self._known.values())
            self._known |= zip((places[index] for index in new), invent(new, taken), strict=True)


def _read(connection: Connection) -> dict[str, Identity]:
    rows = connection.execute(select(tables.cases.c["place", "case_id", "patient"]))
    return {place: Identity(case_id, patient) for place, case_id, patient in rows}
