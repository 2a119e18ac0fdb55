"""Checks of what is served: the studies, in a folder or a DICOMweb server; the weights and CLIP; and access."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from . import OK, PROBLEM, WARNING, Finding, counted

if TYPE_CHECKING:
    from ..settings import Settings, Workspace
    from ..studies.dicomweb import DicomWebSource
    from ..studies.folder import FolderSource

SHOWN = 10
USE_ANOTHER = "put another version to use: POST /model/versions/0/use"
LAYOUTS = (
    "a folder per patient with four files (CASE_t1.nii.gz, _t1ce, _t2, _flair), or 4D files; "
    "other names: --conf pattern_t1 '*T1_pre*.nii.gz' and so on"
)


def look(studies: str, settings: Settings) -> tuple[list[Finding], Workspace | None]:
    """Check the studies; return findings and the server's workspace, None if the server could not start."""
    from brats_clip.errors import InputError

    from ..errors import ClientError
    from ..labels.store import unsupported_files
    from ..studies.open import open_studies

    state = Path(settings.workspace or studies) / ".brats_clip"
    new = not state.exists()
    try:
        source, workspace = open_studies(studies, settings, remember=False)
    except (InputError, ClientError) as error:
        remedy = (
            "--studies FOLDER, or the address of a DICOMweb server; --conf workspace DIR if the folder is read-only"
        )
        return [Finding("studies", PROBLEM, str(error), remedy)], None
    try:
        found = _server(source) if studies.startswith(("http://", "https://")) else _folder(source, settings)
        labels = _some("labels", unsupported_files(workspace.labels), "submit, convert or rename them as described")
        return [*found, *labels], workspace
    finally:
        if new:
            with suppress(OSError):  # the check leaves no files behind
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
    yield from _some("left out", problems, "rename or correct the files; the server leaves them out")
    incomplete = [f"{c.case_id} has no {', '.join(c.missing)}" for c in cases.values() if c.missing]
    if settings.allow_missing_sequences:
        yield from _some("incomplete", incomplete, "the answer is less sure without them")
    else:
        remedy = "add the sequences, or --conf allow_missing_sequences true (the answer is less sure without them)"
        yield from _some("incomplete", incomplete, remedy)


def _some(check: str, sentences: list[str], remedy: str) -> Iterator[Finding]:
    for sentence in sentences[:SHOWN]:
        yield Finding(check, WARNING, sentence, remedy)
    if len(sentences) > SHOWN:
        yield Finding(check, WARNING, f"and {len(sentences) - SHOWN} more", remedy)


def _server(source: DicomWebSource) -> Iterator[Finding]:
    from ..dicom.client import as_unreachable, pages
    from ..errors import Unreachable
    from ..studies.dicomweb.study_record import STUDY_FIELDS

    try:
        with as_unreachable(source.url):
            search = source.client.search_for_studies
            found = pages(search, "0020000D", fields=STUDY_FIELDS, search_filters={"ModalitiesInStudy": "MR"})
    except Unreachable as error:
        remedy = "start it, or correct the address; MONAI_LABEL_DICOMWEB_USERNAME and _PASSWORD if it asks for a login"
        yield Finding("DICOM server", PROBLEM, error.sentence, remedy)
        return
    if found:
        yield Finding("DICOM server", OK, f"answers; {len(found)} MR stud{'y' if len(found) == 1 else 'ies'}")
    else:
        yield Finding("DICOM server", WARNING, "answers, but has no MR study", "send it one; the server finds it")


def access(settings: Settings) -> Iterator[Finding]:
    """Check who can access the server, and whether the login realm answers."""
    from monailabel.config import settings as server

    from ..errors import Unreachable
    from ..server.authentication import ask_realm

    if server.MONAI_LABEL_AUTH_ENABLE:
        try:
            known = "public_key" in ask_realm()
            sentence = "" if known else f"{server.MONAI_LABEL_AUTH_REALM_URI} is no realm: it names no public key"
        except Unreachable as error:
            sentence = error.sentence
        remedy = "correct MONAI_LABEL_AUTH_REALM_URI, or start the login server"
        yield Finding("access", PROBLEM, sentence, remedy) if sentence else Finding("access", OK, "with a token only")
    elif settings.remote:
        says = "other machines have access without a login: anyone who reaches the port can see and change everything"
        yield Finding("access", WARNING, says, "MONAI_LABEL_AUTH_ENABLE=true, see the documentation")
    else:
        yield Finding("access", OK, "this machine alone")


def weights(bundle: Path, checkpoint: Path, workspace: Workspace | None) -> Iterator[Finding]:
    """Check that the weights in use exist, load, fit the network, and have the recorded SHA-256.

    Args:
        bundle: its folder.
        checkpoint: the weights of version 0.
        workspace: where the server keeps trained weights; None if it is not known.
    """
    from brats_clip import Segmenter
    from brats_clip.errors import BratsClipError
    from brats_clip.evaluation import sha256_of

    from ..models import ModelRegistry
    from ..store import Store

    kept = workspace is not None and workspace.store.exists()
    versions = workspace.models if kept else bundle / "no versions"

    try:
        version = ModelRegistry(versions, checkpoint, Store(workspace.store) if kept else None).current()
        Segmenter(bundle=bundle, checkpoint=version.path, device="cpu", cache_bytes=0)
    except (BratsClipError, OSError) as error:
        remedy = f"put the weights back, or name others with --conf checkpoint FILE (now {checkpoint})"
        yield Finding("weights", PROBLEM, str(error), USE_ANOTHER if str(versions) in str(error) else remedy)
        return
    digest = sha256_of(version.path)
    if version.number and digest != version.sha256:
        yield Finding("weights", PROBLEM, f"{version.name}: not the file that was published (sha256)", USE_ANOTHER)
    elif not version.number and checkpoint.parent.parent == bundle and not _known(bundle, digest):
        says = f"{version.name} load and fit, but are not those of the bundle's README (sha256 {digest[:16]}...)"
        yield Finding("weights", WARNING, says, "expected if you trained them; else put them back")
    else:
        yield Finding("weights", OK, f"{version.name} load and fit (sha256 {digest[:16]}...)")


def clip(bundle: Path) -> Iterator[Finding]:
    """Check that the bundle's CLIP exists and loads."""
    from monai.bundle import ConfigParser

    from brats_clip.errors import WeightsError
    from brats_clip.semantics import load_clip

    config = ConfigParser()
    config.read_config(bundle / "configs" / "inference.json")
    config["bundle_root"] = str(bundle)
    try:
        yield Finding("CLIP", OK, load_clip(config.get_parsed_content("clip_source")).describe())
    except WeightsError as error:
        yield Finding("CLIP", PROBLEM, str(error), "put the folder back: git checkout -- bundle/models/clip")


def _known(bundle: Path, digest: str) -> bool:
    """Return whether the bundle's README has this hash, or the start of it."""
    readme = bundle / "docs" / "README.md"
    named = re.findall(r"\b[0-9a-f]{16,64}\b", readme.read_text(encoding="utf-8")) if readme.is_file() else []
    return any(digest.startswith(start) for start in named)
