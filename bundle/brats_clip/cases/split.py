"""Put patients into sections and folds so that the answer for one patient does not hang on the others."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

from ..errors import InputError

SECTIONS: tuple[str, ...] = ("training", "validation", "testing")


def split_patients(patients: Iterable[str], fractions: Sequence[float], seed: int = 0) -> dict[str, str]:
    """Choose a section for each patient.

    A hash of seed and patient gives a position in [0, 1), and the position gives the section. So the order of folders
    plays no part, and a patient stays put when others are added. The price is that sections have the wanted sizes
    only roughly, and that with few patients (below 50 or so) a section may draw nobody. It then borrows the patient
    next to it from the largest section, who goes home once the section draws one of its own: only then does an
    earlier patient move.

    Args:
        patients: ids; equal ids count once.
        fractions: shares of training, validation and testing; their sum is 1.
        seed: another seed gives another split.

    Returns:
        Section by patient. With three patients or more no section with a share is empty; with fewer, training comes
        first, then validation.

    Raises:
        InputError: if the fractions are not three shares of 1.
    """
    if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise InputError("fractions", " ".join(map(str, fractions)), "three shares, none below 0, with the sum 1")
    positions = {patient: _position("section", seed, patient) for patient in sorted(set(patients))}
    _, validation, testing = fractions
    # Testing first: another share of validation then leaves the test patients as they are.
    intervals = {
        "testing": (0.0, testing),
        "validation": (testing, testing + validation),
        "training": (testing + validation, 1.0),
    }
    drawn = {
        patient: next((s for s, (low, high) in intervals.items() if low <= position < high), "training")
        for patient, position in positions.items()
    }
    guaranteed = [s for s, share in zip(SECTIONS, fractions, strict=True) if share > 0][: len(positions)]
    for section in guaranteed:
        members = {s: [p for p, own in drawn.items() if own == s] for s in SECTIONS}
        if members[section]:
            continue
        lender = max((s for s in SECTIONS if len(members[s]) > (s in guaranteed)), key=lambda s: len(members[s]))
        low, high = intervals[section]
        nearest = min(members[lender], key=lambda p: (max(low - positions[p], positions[p] - high), p))
        drawn[nearest] = section
    return drawn


def fold_of(patient: str, folds: int, seed: int = 0) -> int:
    """Fold of a patient, 0 to ``folds - 1``, from a hash of seed and patient: folds are of roughly equal size."""
    return int(_position("fold", seed, patient) * folds)


def _position(purpose: str, seed: int, patient: str) -> float:
    digest = hashlib.sha256(f"{purpose}:{seed}:{patient}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
