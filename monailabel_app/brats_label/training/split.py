"""Which patients train and which validate: decided once for each, for ever."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from brats_clip.cases import fold_of

from .. import store as tables
from ..store import Store

TRAINING, VALIDATION = "training", "validation"
SIDES = (TRAINING, VALIDATION)
_STEPS = 2**32


class PatientSplit:
    """Puts each patient on a side when it is first seen, and writes that down.

    A hash of seed and patient against the share decides. Only where a side would be empty does the next patient go
    there whatever its hash, since without both sides there is no training. Another share or seed, other patients, or a
    patient whose labels were taken away move nobody. Safe to use from several threads and processes.
    """

    def __init__(self, store: Store, share: float, seed: int) -> None:
        self.store, self.share, self.seed = store, share, seed

    def sides(self) -> dict[str, str]:
        """The side of every patient that has one.

        Raises:
            InputError: if the store is damaged. It is never drawn again: a validation patient might train.
        """
        with self.store.read() as connection:
            return _read(connection)

    def assign(self, patients: Iterable[str]) -> dict[str, str]:
        """The side of each of these patients, those with labels; new ones get theirs now.

        Returns:
            "training" or "validation" by patient. A first and only patient gets none yet.

        Raises:
            InputError: as ``sides``.
        """
        patients = sorted(set(patients))
        sides, drawn = self._sides_of(patients, self.sides())
        if drawn:
            since = datetime.now(timezone.utc).isoformat(timespec="seconds")
            with self.store.write() as connection:  # others may have drawn meanwhile
                sides, drawn = self._sides_of(patients, _read(connection))
                for patient, side in drawn.items():
                    values = {"side": side, "since": since}
                    row = insert(tables.patients).values(patient=patient, **values)
                    connection.execute(row.on_conflict_do_update(index_elements=["patient"], set_=values))
        return {**sides, **drawn}

    def would_be(self, patients: Iterable[str]) -> dict[str, str]:
        """What ``assign`` would return now; nobody gets a side by it."""
        sides, drawn = self._sides_of(sorted(set(patients)), self.sides())
        return {**sides, **drawn}

    def _sides_of(self, patients: list[str], known: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """The sides of these patients that are known, and those of new ones."""
        sides = {patient: known[patient] for patient in patients if patient in known}
        new = sorted((p for p in patients if p not in known), key=lambda p: (self._position(p), p))
        if len(new) == len(patients) < 2 and not known:
            return {}, {}
        return sides, self._draw(new, set(sides.values()))

    def _draw(self, new: list[str], there: set[str]) -> dict[str, str]:
        """Sides of new patients, in the order of their hash, beside the sides that are taken already."""
        drawn = {p: VALIDATION if self._position(p) < self.share else TRAINING for p in new}
        if len(new) + len(there) < 2:
            return drawn
        for side, nearest in ((VALIDATION, 0), (TRAINING, -1)):
            if new and side not in there and side not in drawn.values():
                drawn[new[nearest]] = side
        return drawn

    def _position(self, patient: str) -> float:
        return fold_of(patient, _STEPS, self.seed) / _STEPS


def _read(connection: Connection) -> dict[str, str]:
    columns = tables.patients.c["patient", "side"]
    return dict(connection.execute(select(columns).where(columns.side.is_not(None))).tuples().all())
