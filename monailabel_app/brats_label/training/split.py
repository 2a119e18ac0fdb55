"""Split the patients into training and validation, permanently."""

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
    """Assigns each patient to a side when it is first seen, and stores the assignment.

    A hash of seed and patient, compared with the share, decides. If a side would be empty, the next patient goes there
    whatever its hash, since training needs both sides. An assignment never changes: not with another share or seed, nor
    when other patients come, nor when a patient's labels are removed. Safe to use from several threads and processes.
    """

    def __init__(self, store: Store, share: float, seed: int) -> None:
        self.store, self.share, self.seed = store, share, seed

    def sides(self) -> dict[str, str]:
        """Return the side of every patient that has one.

        Raises:
            InputError: if the store is damaged. A new split might train on validation patients, so none is made.
        """
        with self.store.read() as connection:
            return _read(connection)

    def assign(self, patients: Iterable[str]) -> dict[str, str]:
        """Return the side of each of these patients, who have labels; assign new patients first.

        Returns:
            "training" or "validation" by patient. A single first patient is not assigned yet.

        Raises:
            InputError: as ``sides``.
        """
        patients = sorted(set(patients))
        sides, drawn = self._sides_of(patients, self.sides())
        if drawn:
            since = datetime.now(timezone.utc).isoformat(timespec="seconds")
            with self.store.write() as connection:  # another process may have assigned some meanwhile
                sides, drawn = self._sides_of(patients, _read(connection))
                for patient, side in drawn.items():
                    values = {"side": side, "since": since}
                    row = insert(tables.patients).values(patient=patient, **values)
                    connection.execute(row.on_conflict_do_update(index_elements=["patient"], set_=values))
        return {**sides, **drawn}

    def preview(self, patients: Iterable[str]) -> dict[str, str]:
        """Return what ``assign`` would return now, without storing anything."""
        sides, drawn = self._sides_of(sorted(set(patients)), self.sides())
        return {**sides, **drawn}

    def _sides_of(self, patients: list[str], known: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """Return the stored sides of these patients, and sides for those that have none."""
        sides = {patient: known[patient] for patient in patients if patient in known}
        new = sorted((p for p in patients if p not in known), key=lambda p: (self._position(p), p))
        if len(new) == len(patients) < 2 and not known:
            return {}, {}
        return sides, self._draw(new, set(sides.values()))

    def _draw(self, new: list[str], there: set[str]) -> dict[str, str]:
        """Return sides for new patients, who are in the order of their hash; ``there`` are the sides in use."""
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
