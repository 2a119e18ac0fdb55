"""Permanent IDs of cases and keys of patients, assigned when a case is first seen."""

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
    """The ID of a case, under which its labels are stored, and the key of its patient, which decides the split."""

    case_id: str
    patient: str


class Identities:
    """Store the identity of each place. A place identifies a case across restarts: the path of its files in the
    studies folder, or its StudyInstanceUID.

    Identities are permanent, also when other cases are added, and when a place gets more images or disappears. An ID
    is never reused for another place, which would then have the labels of the first. Safe to use from several threads
    and processes.

    Args:
        store: holds the identities; None to keep them in memory only.
        write: False to only read the store.

    Raises:
        InputError: if the store is damaged. New IDs are not assigned then: labels might go to another patient.
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
        """Return the identity of each place; new places get one now.

        Args:
            places: without duplicates.
            invent: called with the indices of new places and the IDs in use; returns the new identities.
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
        except OSError as reason:  # the cases can still be used; they are stored with the next new one
            self._invent(places, invent)
            logger.error("the ids of new cases could not be stored (%s): they may change after a restart", reason)

    def _invent(self, places: Sequence[str], invent: Callable) -> None:
        new = [index for index, place in enumerate(places) if place not in self._known]
        if new:
            taken = frozenset(identity.case_id for identity in self._known.values())
            self._known |= zip((places[index] for index in new), invent(new, taken), strict=True)


def _read(connection: Connection) -> dict[str, Identity]:
    rows = connection.execute(select(tables.cases.c["place", "case_id", "patient"]))
    return {place: Identity(case_id, patient) for place, case_id, patient in rows}


def safe_name(text: str) -> str:
    """Return ``text`` as a file name: letters, digits, ``. _ -``, not hidden, no longer than 100 characters."""
    name = _UNSAFE.sub("_", text).strip(".-") or "case"
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9]}_{_digest(text)}"


def distinct_ids(places: Sequence[tuple[str, tuple[str, ...]]], taken: Collection[str] = ()) -> list[str]:
    """Assign an ID to each case.

    Args:
        places: name of each case and the folders that lead to it; the IDs of equal ones differ by a number only.
        taken: IDs of other cases.

    Returns:
        The name if it is unique, else ``folder__name`` with as many folders as necessary. All these cases with the
        same name get the longer ID.
    """
    ids = [safe_name(name) for name, _ in places]
    most = max((len(folders) for _, folders in places), default=0)
    for depth in range(1, most + 1):
        for index in _repeated(ids, taken):
            name, folders = places[index]
            folders = folders[:-1] if folders and safe_name(folders[-1]) == safe_name(name) else folders
            ids[index] = "__".join(map(safe_name, (*folders[-depth:], name)))
    for index in _repeated(ids, taken):  # one folder contains both, or names differ in unsafe characters only
        ids[index] = f"{ids[index]}__{_digest(repr(places[index]))}"
    ids = [name if len(name) <= 2 * _LONGEST else f"{name[:_LONGEST]}_{_digest(name)}" for name in ids]
    for index in _repeated(ids, taken):
        used = {name.lower() for name in (*ids, *taken)}
        ids[index] = next(name for n in count(index) if (name := f"{ids[index]}_{n}").lower() not in used)
    return ids


def _repeated(ids: list[str], taken: Collection[str]) -> list[int]:
    # Upper and lower case count as equal: some file systems ignore case.
    counts = Counter(name.lower() for name in (*ids, *taken))
    return [index for index, name in enumerate(ids) if counts[name.lower()] > 1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


# Names of folders that contain several patients, not the visits of one patient.
_COLLECTION = re.compile(
    r"""(train|val|valid|test)(ing|idation)?([ ._-]?(data|set|cases))*
    |(site|cent(er|re)|hospital|batch|part|fold|cohort|group)([ ._-]?\d+|[ ._-]\w)?
    |(data(sets?)?|images?|labels?|nifti|cases|patients|subjects|studies|sourcedata|derivatives|raw(data)?)(_?t[rs])?
    |hgg|lgg|task[ ._-]?\d.*|(miccai[ ._-]?)?(brats|fets|msd)([ ._-]?\d{4})?([ ._-]?(train|val|test).*)?""",
    re.IGNORECASE | re.VERBOSE,
)


def patient_key(found: FoundCase, case_id: str, folders: Sequence[str]) -> str:
    """Return the key of the patient of a case.

    Args:
        found: the case.
        case_id: its id.
        folders: from the studies folder down to its images.

    Returns:
        The patient's name in the data set, if the files are named as in a public data set. Else the first folder that
        is not named like a collection of patients (``training``, ``site1``, ``imagesTr``): it is safer to take two
        patients for one than one for two. The ID of the case if there is no such folder.
    """
    if found.same_patient:
        return patient_of(safe_name(found.name))
    if any(MSD_FILE.fullmatch(name) for name in found.files.values()):
        return case_id
    first = next((folder for folder in folders if not _COLLECTION.fullmatch(folder)), None)
    return patient_of(case_id if first is None else safe_name(first))
