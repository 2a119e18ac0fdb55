"""What each case and its patient are called: decided when the case is first seen, for ever."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from brats_clip.cases import patient_of
from brats_clip.cases.naming import MSD_FILE

from .. import store as tables
from ..store import Store

if TYPE_CHECKING:
    from .folder_scan import FoundCase

logger = logging.getLogger(__name__)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 100


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
        InputError: if the store is damaged. No new ids are given: labels might be assigned to another patient.
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


def safe_name(text: str) -> str:
    """``text`` as a file name: letters, digits, ``. _ -``, not hidden, no longer than 100 characters."""
    name = _UNSAFE.sub("_", text).strip(".-") or "case"
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9]}_{_digest(text)}"


def distinct_ids(places: Sequence[tuple[str, tuple[str, ...]]], taken: Collection[str] = ()) -> list[str]:
    """Give each case an id.

    Args:
        places: name of the case and the folders down to it, by case; equal ones get the same id, up to a number.
        taken: ids of other cases.

    Returns:
        The name where it is the only one, else ``folder__name`` with as many folders as it takes. Of these cases all of
        one name get the longer id.
    """
    ids = [safe_name(name) for name, _ in places]
    most = max((len(folders) for _, folders in places), default=0)
    for depth in range(1, most + 1):
        for index in _repeated(ids, taken):
            name, folders = places[index]
            folders = folders[:-1] if folders and safe_name(folders[-1]) == safe_name(name) else folders
            ids[index] = "__".join(map(safe_name, (*folders[-depth:], name)))
    for index in _repeated(ids, taken):  # one folder holds both, or names differ in unsafe characters only
        ids[index] = f"{ids[index]}__{_digest(repr(places[index]))}"
    ids = [name if len(name) <= 2 * _LONGEST else f"{name[:_LONGEST]}_{_digest(name)}" for name in ids]
    for index in _repeated(ids, taken):
        used = {name.lower() for name in (*ids, *taken)}
        ids[index] = next(name for n in count(index) if (name := f"{ids[index]}_{n}").lower() not in used)
    return ids


def _repeated(ids: list[str], taken: Collection[str]) -> list[int]:
    # Upper and lower case count as equal: some disks do not tell them apart.
    counts = Counter(name.lower() for name in (*ids, *taken))
    return [index for index, name in enumerate(ids) if counts[name.lower()] > 1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


# Folders that hold patients, not the visits of one.
_COLLECTION = re.compile(
    r"""(train|val|valid|test)(ing|idation)?([ ._-]?(data|set|cases))*
    |(site|cent(er|re)|hospital|batch|part|fold|cohort|group)([ ._-]?\d+|[ ._-]\w)?
    |(data(sets?)?|images?|labels?|nifti|cases|patients|subjects|studies|sourcedata|derivatives|raw(data)?)(_?t[rs])?
    |hgg|lgg|task[ ._-]?\d.*|(miccai[ ._-]?)?(brats|fets|msd)([ ._-]?\d{4})?([ ._-]?(train|val|test).*)?""",
    re.IGNORECASE | re.VERBOSE,
)


def patient_key(found: FoundCase, case_id: str, folders: Sequence[str]) -> str:
    """Name the patient of a case.

    Args:
        found: the case.
        case_id: its id.
        folders: from the studies folder down to its images.

    Returns:
        What public data sets call the patient, where the files are named as they name them. Else the first folder,
        passing over those that are called as collections of patients are (``training``, ``site1``, ``imagesTr``):
        rather two patients taken for one than one for two. The case's own id where there is none.
    """
    if found.same_patient:
        return patient_of(safe_name(found.name))
    if any(MSD_FILE.fullmatch(name) for name in found.files.values()):
        return case_id
    first = next((folder for folder in folders if not _COLLECTION.fullmatch(folder)), None)
    return patient_of(case_id if first is None else safe_name(first))
