"""Patients as cases, however many files each has, and where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil
from monailabel.config import settings as server

from brats_clip.cases import SEQUENCES
from brats_clip.errors import InputError

from ..settings import Settings, Workspace
from ..store import open_store
from .identity import Identities

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


def open_studies(studies: str, settings: Settings, remember: bool = True) -> tuple[CaseSource, Workspace]:
    """Open a folder of cases, or a DICOMweb server.

    The workspace is the folder itself, or for a server a folder below ``~/.cache/brats_clip`` named after its address;
    ``--conf workspace`` overrides both.

    Args:
        studies: path or address.
        settings: of the server.
        remember: write down what cases are called, for ever; not where one only looks.

    Raises:
        InputError: if there is no such folder, it cannot be written to, or what cases are called cannot be read.
    """
    if studies.startswith(("http://", "https://")):
        from .dicomweb import DicomWebSource  # needs what files do not

        digest = hashlib.sha256(studies.rstrip("/").encode()).hexdigest()[:12]
        root = Path(settings.workspace or Path.home() / ".cache" / "brats_clip" / digest)
        workspace = _writable(root)
        login = server.MONAI_LABEL_DICOMWEB_USERNAME, server.MONAI_LABEL_DICOMWEB_PASSWORD
        identities = _identities(workspace, remember)
        source = DicomWebSource(studies.rstrip("/"), settings, workspace.cache, *login, identities=identities)
        return source, workspace

    from .folder import FolderSource

    folder = Path(studies)
    if not folder.is_dir():
        raise InputError(studies, "a file" if folder.exists() else "no such folder", "a folder of cases")
    workspace = _writable(Path(settings.workspace) if settings.workspace else folder)
    return FolderSource(folder, settings, workspace.cache, _identities(workspace, remember)), workspace


def refuse_just_made(studies: str) -> None:
    """Undo what MONAI Label does at start: it makes an empty folder in place of one that is not there.

    Raises:
        InputError: if this process made the folder; it is removed. One that was there may be empty.
    """
    folder = Path(studies)
    if not folder.is_dir() or any(folder.iterdir()) or folder.stat().st_mtime < psutil.Process().create_time():
        return
    with suppress(OSError):
        folder.rmdir()
    raise InputError(studies, "no such folder", "a folder of cases")


def _identities(workspace: Workspace, remember: bool) -> Identities:
    # Who only looks makes no store.
    return Identities(open_store(workspace) if remember or workspace.store.exists() else None, write=remember)


def _writable(root: Path) -> Workspace:
    workspace = Workspace(root.expanduser().absolute())
    try:
        workspace.state.mkdir(parents=True, exist_ok=True)
        probe = workspace.state / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise InputError(
            root, f"a folder that takes no files ({error.strerror})", "one for labels and scores"
        ) from None
    return workspace
