"""Patients as cases, however many files each has, and where they come from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from brats_clip.cases import SEQUENCES

# Best shown first, where the sequence of the settings is missing.
_BY_DETAIL = ("t1ce", "flair", "t2", "t1")


@dataclass(frozen=True)
class ChosenImage:
    """The image that serves as one sequence of a case.

    Attributes:
        sequence: "t1", "t1ce", "t2" or "flair".
        image_id: what clients call it: ``CASE@flair`` for files, the SeriesInstanceUID for DICOM.
        name: for people: a file name, or a series description. Never a patient's name.
        reason: why this image was taken for this sequence.
    """

    sequence: str
    image_id: str
    name: str
    reason: str


@dataclass(frozen=True)
class LeftOutImage:
    """An image of the patient that serves as no sequence, and why: a localiser, a duplicate, a map."""

    image_id: str
    name: str
    reason: str


@dataclass(frozen=True)
class Case:
    """A patient as clients see it.

    Attributes:
        case_id: safe as a file name, and the same for ever. For files the name of the case; for DICOM the
            SeriesInstanceUID of what was the reference sequence when the study was first seen: viewers open series.
        patient: who it is, for the split; two cases of one patient share it. The same for ever. An id or a hash.
        images: the image of each sequence there is.
        reference: the sequence whose grid the case is segmented and stored on; one of ``images``.
        left_out: what else the patient has.
        info: for clients: StudyInstanceUID and so on. Plain JSON values.
    """

    case_id: str
    patient: str
    images: Mapping[str, ChosenImage]
    reference: str
    left_out: tuple[LeftOutImage, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """Sequences that the case does not have."""
        return tuple(sequence for sequence in SEQUENCES if sequence not in self.images)


def reference_of(wanted: str, there: Collection[str]) -> str:
    """The sequence whose grid a case is segmented and stored on: ``wanted``, or the most detailed one there is."""
    return next(sequence for sequence in (wanted, *_BY_DETAIL) if sequence in there)


class CaseSource(Protocol):
    """Where cases come from: a folder, or a DICOMweb server. Safe to use from several threads."""

    def cases(self) -> dict[str, Case]:
        """All cases by id, from memory where it is fresh enough; files are not opened for it, series not fetched."""

    def problems(self) -> list[str]:
        """A sentence for each file that makes no case; from memory, as ``cases``."""

    def refresh(self) -> None:
        """Look again."""

    def resolve(self, image_id: str) -> tuple[Case, str]:
        """The case that ``image_id`` belongs to, and the sequence it shows: a case id shows the reference sequence,
        unless it is the id of another image of the case.

        Raises:
            NotFound: for an id of no case, or of an image that serves as no sequence (the reason is in the sentence).
        """

    def native_files(self, case: Case) -> dict[str, Path]:
        """A 3D NIfTI file per sequence, on the grid it was acquired on; fetched and converted once, then cached.

        Raises:
            Refused: if a file of the case cannot be read.
            Unreachable: if the DICOMweb server does not answer.
        """

    def fingerprint(self, case: Case) -> list:
        """What changes when an image or the report of the case does; plain values, told by the originals alone."""

    def report(self, case: Case) -> str:
        """The report that lies with the case; "" without one."""
