"""What each case and its patient are called: decided when the case is first seen, for ever."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from ..durable import read_kept, write_json

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
        path: JSON file that keeps them; None for memory alone.
        write: False to read it only.

    Raises:
        InputError: if the file is damaged. Ids are not invented anew: labels might come to another patient.
    """

    def __init__(self, path: Path | None = None, write: bool = True) -> None:
        self.path, self._write = path, write
        self._lock = threading.Lock()
        self._known = self._read()

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
        if self.path is None or not self._write:
            self._invent(places, invent)
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=60):
                self._known |= self._read()
                self._invent(places, invent)
                write_json(self.path, {p: {"case": i.case_id, "patient": i.patient} for p, i in self._known.items()})
        except OSError as reason:  # the cases can be used all the same; it is written with the next new one
            self._invent(places, invent)
            logger.error("%s could not be written (%s): ids may change after a restart", self.path.name, reason)

    def _invent(self, places: Sequence[str], invent: Callable) -> None:
        new = [index for index, place in enumerate(places) if place not in self._known]
        if new:
            taken = frozenset(identity.case_id for identity in self._known.values())
            self._known |= zip((places[index] for index in new), invent(new, taken), strict=True)

    def _read(self) -> dict[str, Identity]:
        if self.path is None:
            return {}
        expected = "the ids of all cases, as they were written; bring the file back from a backup"
        return read_kept(self.path, _known, expected)


def _known(content: Any) -> dict[str, Identity]:
    known = {place: Identity(entry["case"], entry["patient"]) for place, entry in content.items()}
    if not all(isinstance(text, str) for identity in known.values() for text in identity):
        raise ValueError("an id that is no text")
    return known
