"""Open the studies (a folder or a DICOMweb server) and the workspace for labels and other results."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import psutil
from monailabel.config import settings as server

from brats_clip.errors import InputError

from ..open_store import open_store
from ..settings import Settings, Workspace
from . import CaseSource
from .dicomweb import DicomWebSource
from .folder import FolderSource
from .identity import Identities


def open_studies(studies: str, settings: Settings, remember: bool = True) -> tuple[CaseSource, Workspace]:
    """Open a folder of cases, or a DICOMweb server.

    The workspace is the folder itself, or for a server a folder below ``~/.cache/brats_clip`` named after its address;
    ``--conf workspace`` overrides both.

    Args:
        studies: path or address.
        settings: of the server.
        remember: store the IDs of new cases permanently; False for read-only use.

    Raises:
        InputError: if the folder does not exist or is not writable, or the stored IDs of cases cannot be read.
    """
    if studies.startswith(("http://", "https://")):
        digest = hashlib.sha256(studies.rstrip("/").encode()).hexdigest()[:12]
        root = Path(settings.workspace or Path.home() / ".cache" / "brats_clip" / digest)
        workspace = _writable(root)
        login = server.MONAI_LABEL_DICOMWEB_USERNAME, server.MONAI_LABEL_DICOMWEB_PASSWORD
        identities = _identities(workspace, remember)
        source = DicomWebSource(studies.rstrip("/"), settings, workspace.cache, *login, identities=identities)
        return source, workspace

    folder = Path(studies)
    if not folder.is_dir():
        raise InputError(studies, "a file" if folder.exists() else "no such folder", "a folder of cases")
    workspace = _writable(Path(settings.workspace) if settings.workspace else folder)
    return FolderSource(folder, settings, workspace.cache, _identities(workspace, remember)), workspace


def remove_created_folder(studies: str) -> None:
    """Remove the empty folder that MONAI Label creates at start if the studies folder does not exist.

    Raises:
        InputError: if this process created the folder. A folder that existed before may be empty.
    """
    folder = Path(studies)
    if not folder.is_dir() or any(folder.iterdir()) or folder.stat().st_mtime < psutil.Process().create_time():
        return
    with suppress(OSError):
        folder.rmdir()
    raise InputError(studies, "no such folder", "a folder of cases")


def _identities(workspace: Workspace, remember: bool) -> Identities:
    # Read-only use creates no store.
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
            root,
            f"a folder that is not writable ({error.strerror})",
            "one for labels and scores; for studies that are read-only use --conf workspace DIR, a folder elsewhere",
        ) from None
    return workspace
