"""Which patients train and which validate: decided once for each, for ever."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock

from brats_clip.cases import fold_of

from ..durable import read_kept, write_json

TRAINING, VALIDATION = "training", "validation"
SIDES = (TRAINING, VALIDATION)
_STEPS = 2**32


class PatientSplit:
    """Puts each patient on a side when it is first seen, and writes that down.

    A hash of seed and patient against the share decides. Only where a side would be empty does the next patient go
    there whatever its hash, since without both sides there is no training. Another share or seed, other patients, or a
    patient whose labels were taken away move nobody. Safe to use from several threads and processes.

    Args:
        path: JSON file that keeps the sides.
        share: share of the patients that validate, more than 0 and less than 1.
        seed: of the hash.
    """

    def __init__(self, path: str | os.PathLike, share: float, seed: int) -> None:
        self.path, self.share, self.seed = Path(path), share, seed

    def sides(self) -> dict[str, str]:
        """The side of every patient that has one.

        Raises:
            InputError: if the file is damaged. It is never drawn anew: a validation patient might train.
        """
        return {patient: entry["side"] for patient, entry in self._read().items()}

    def assign(self, patients: Iterable[str]) -> dict[str, str]:
        """The side of each of these patients, those with labels; new ones get theirs now.

        Returns:
            "training" or "validation" by patient. A first and only patient gets none yet.

        Raises:
            InputError: as ``sides``.
        """
        patients = sorted(set(patients))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=60):
            known = self._read()
            sides, drawn = self._sides_of(patients, known)
            if drawn:
                now = datetime.now(timezone.utc).isoformat(timespec="seconds")
                write_json(self.path, {**known, **{p: {"side": side, "since": now} for p, side in drawn.items()}})
        return {**sides, **drawn}

    def would_be(self, patients: Iterable[str]) -> dict[str, str]:
        """What ``assign`` would return now; nobody gets a side by it."""
        sides, drawn = self._sides_of(sorted(set(patients)), self._read())
        return {**sides, **drawn}

    def _sides_of(self, patients: list[str], known: dict[str, dict]) -> tuple[dict[str, str], dict[str, str]]:
        """The sides of these patients that are known, and those of new ones."""
        sides = {patient: known[patient]["side"] for patient in patients if patient in known}
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

    def _read(self) -> dict[str, dict]:
        expected = "the sides of all patients, as they were written; bring the file back from a backup"
        return read_kept(self.path, _checked, expected)


def _checked(content: Any) -> dict[str, dict]:
    if not all(entry["side"] in SIDES for entry in content.values()):
        raise ValueError("a side of no name")
    return content
