"""Assign patients to sections and folds, as independently of the other patients as possible."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

from ..errors import InputError

SECTIONS: tuple[str, ...] = ("training", "validation", "testing")


def split_patients(patients: Iterable[str], fractions: Sequence[float], seed: int = 0) -> dict[str, str]:
    """Choose a section for each patient.

    A hash of seed and patient gives a position in [0, 1), and the position gives the section. So the order of folders
    does not matter, and a patient keeps the section when others are added. In return, section sizes are only
    approximate, and with few patients (below about 50) a section may be empty. An empty section borrows the patient
    with the nearest position from the largest section. Once the section has a patient of its own, the borrowed
    patient returns: only then does the section of an existing patient change.

    Args:
        patients: ids; equal ids count once.
        fractions: shares of training, validation and testing, which add up to 1.
        seed: random seed; another seed gives another split.

    Returns:
        Section by patient. With three patients or more, no section with a nonzero share is empty; with fewer, training
        is filled first, then validation.

    Raises:
        InputError: if the fractions are not three shares that add up to 1.
    """
    if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise InputError("fractions", " ".join(map(str, fractions)), "three shares, none below 0, with the sum 1")
    positions = {patient: _position("section", seed, patient) for patient in sorted(set(patients))}
    _, validation, testing = fractions
    # Testing comes first, so that changing the validation share keeps the test patients.
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
    """Return the fold of a patient, 0 to ``folds - 1``, from a hash of seed and patient; fold sizes are similar."""
    return int(_position("fold", seed, patient) * folds)


def _position(purpose: str, seed: int, patient: str) -> float:
    digest = hashlib.sha256(f"{purpose}:{seed}:{patient}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
