"""The studies: a folder, or a DICOMweb server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .finding import OK, PROBLEM, WARNING, Finding, counted

if TYPE_CHECKING:
    from ..cases.folder_source import FolderSource
    from ..dicom.web_source import DicomWebSource
    from ..settings import Settings, Workspace

SHOWN = 10
LAYOUTS = (
    "a folder per patient with four files (CASE_t1.nii.gz, _t1ce, _t2, _flair), or 4D files; "
    "other names: --conf pattern_t1 '*T1_pre*.nii.gz' and so on"
)


def look(studies: str, settings: Settings) -> tuple[list[Finding], Workspace | None]:
    """What the studies hold, and where the server would keep what it makes of them; None if it could not start."""
    from brats_clip.errors import InputError

    from ..errors import ClientError
    from ..studies import open_studies

    state = Path(settings.workspace or studies) / ".brats_clip"
    new = not state.exists()
    try:
        source, workspace = open_studies(studies, settings, remember=False)
    except (InputError, ClientError) as error:
        return [Finding("studies", PROBLEM, str(error), "--studies FOLDER, or the address of a DICOMweb server")], None
    try:
        found = _server(source) if studies.startswith(("http://", "https://")) else _folder(source, settings)
        return list(found), workspace
    finally:
        if new:
            with suppress(OSError):  # looking leaves nothing behind
                state.rmdir()


def _folder(source: FolderSource, settings: Settings) -> Iterator[Finding]:
    from ..server.pages import NO_VIEWER

    cases, problems = source.cases(), source.problems()
    if cases:
        yield Finding("studies", OK, f"{counted(len(cases), 'case')} in {source.root}, which can be written to")
        yield Finding("viewer", OK, NO_VIEWER)
    else:
        says = f"no case in {source.root}" + (f"; {len(problems)} could not be used" if problems else "")
        yield Finding("studies", PROBLEM, says, LAYOUTS)
    yield from _some("left out", problems, "rename or mend the files; the server leaves them out")
    incomplete = [f"{c.case_id} has no {', '.join(c.missing)}" for c in cases.values() if c.missing]
    if settings.allow_missing_sequences:
        yield from _some("incomplete", incomplete, "the answer is less sure without them")
    else:
        mend = "add the sequences, or --conf allow_missing_sequences true (the answer is less sure without them)"
        yield from _some("incomplete", incomplete, mend)


def _some(check: str, sentences: list[str], mend: str) -> Iterator[Finding]:
    for sentence in sentences[:SHOWN]:
        yield Finding(check, WARNING, sentence, mend)
    if len(sentences) > SHOWN:
        yield Finding(check, WARNING, f"and {len(sentences) - SHOWN} more", mend)


def _server(source: DicomWebSource) -> Iterator[Finding]:
    from ..dicom.client import pages, reaching
    from ..dicom.study_index import STUDY_FIELDS
    from ..errors import Unreachable

    try:
        with reaching(source.url):
            search = source.client.search_for_studies
            found = pages(search, "0020000D", fields=STUDY_FIELDS, search_filters={"ModalitiesInStudy": "MR"})
    except Unreachable as error:
        mend = "start it, or correct the address; MONAI_LABEL_DICOMWEB_USERNAME and _PASSWORD if it asks for a login"
        yield Finding("DICOM server", PROBLEM, error.sentence, mend)
        return
    if found:
        yield Finding("DICOM server", OK, f"answers; {len(found)} MR stud{'y' if len(found) == 1 else 'ies'}")
    else:
        yield Finding("DICOM server", WARNING, "answers, but has no MR study", "send it one; the server finds it")


def access(settings: Settings) -> Iterator[Finding]:
    """Who may ask: other machines, and whether the realm that knows them answers."""
    from monailabel.config import settings as server

    from ..errors import Unreachable
    from ..server.authentication import ask_realm

    if server.MONAI_LABEL_AUTH_ENABLE:
        try:
            known = "public_key" in ask_realm()
            sentence = "" if known else f"{server.MONAI_LABEL_AUTH_REALM_URI} is no realm: it names no public key"
        except Unreachable as error:
            sentence = error.sentence
        mend = "correct MONAI_LABEL_AUTH_REALM_URI, or start the login server"
        yield Finding("access", PROBLEM, sentence, mend) if sentence else Finding("access", OK, "with a token only")
    elif settings.remote:
        says = "other machines may ask, and nobody has to log in: who reaches the port sees and changes everything"
        yield Finding("access", WARNING, says, "MONAI_LABEL_AUTH_ENABLE=true, see the documentation")
    else:
        yield Finding("access", OK, "this machine alone")
