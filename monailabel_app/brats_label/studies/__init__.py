"""Cases, each with the images of one patient, and the interface of their sources."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from brats_clip.cases import SEQUENCES

# Most detailed first, for cases without the reference sequence of the settings.
_BY_DETAIL = ("t1ce", "flair", "t2", "t1")


@dataclass(frozen=True)
class ChosenImage:
    """The image that serves as one sequence of a case.

    Attributes:
        sequence: "t1", "t1ce", "t2" or "flair".
        image_id: the ID for clients: ``CASE@flair`` for files, the SeriesInstanceUID for DICOM.
        name: display name: a file name or a series description, never a patient's name.
        reason: why this image was taken for this sequence.
    """

    sequence: str
    image_id: str
    name: str
    reason: str


@dataclass(frozen=True)
class LeftOutImage:
    """An image of the patient that is not used, and the reason: a localiser, a duplicate, a map."""

    image_id: str
    name: str
    reason: str


@dataclass(frozen=True)
class Case:
    """A case as clients see it.

    Attributes:
        case_id: permanent, and safe as a file name. For files, the name of the case; for DICOM, the SeriesInstanceUID
            of the reference sequence when the study was first seen, since viewers open series.
        patient: permanent key of the patient, for the training split; all cases of a patient share it. ID or hash.
        images: the image of each available sequence.
        reference: the sequence whose grid the case is segmented and stored on; one of ``images``.
        left_out: images of the patient that are not used.
        info: metadata for clients, such as StudyInstanceUID; plain JSON values.
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
    """Return the sequence whose grid a case is segmented and stored on: ``wanted``, or the most detailed one."""
    return next(sequence for sequence in (wanted, *_BY_DETAIL) if sequence in there)


class CaseSource(Protocol):
    """The source of cases: a folder, or a DICOMweb server. Safe to use from several threads."""

    def cases(self) -> dict[str, Case]:
        """Return all cases by ID, from memory while the last listing is fresh."""

    def problems(self) -> list[str]:
        """Return a message for each file or study that forms no case; from memory, as ``cases``."""

    def refresh(self) -> None:
        """List the cases again."""

    def resolve(self, image_id: str) -> tuple[Case, str]:
        """Return the case that ``image_id`` belongs to, and the sequence it refers to: for a case ID the reference
        sequence, unless it is also the ID of another image of the case.

        Raises:
            NotFound: for an unknown ID, or that of an image that is not used (the message gives the reason).
        """

    def native_files(self, case: Case) -> dict[str, Path]:
        """Return a 3D NIfTI file per sequence on its acquisition grid; fetched and converted once, then cached.

        Raises:
            Refused: if a file of the case cannot be read.
            Unreachable: if the DICOMweb server does not answer.
        """

    def fingerprint(self, case: Case) -> list:
        """Return plain values, from the originals only, that change when an image or the report of the case does."""

    def report(self, case: Case) -> str:
        """Return the report found with the case; "" without one."""
