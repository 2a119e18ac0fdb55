"""Sessions: images that a client sends along, kept for a while. MONAI Label's own unpack whatever they are sent."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, File, UploadFile
from fastapi.responses import FileResponse, Response
from monailabel.config import RBAC_USER, settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import get_mime_type
from monailabel.utils.sessions import SessionInfo, Sessions

from ..errors import Busy, ClientError, NotFound, Refused
from .middleware import is_session_id
from .unpack import unpack
from .uploads import safe_name, save

router = APIRouter(prefix="/session", tags=["Session"])
_creating = threading.Lock()


@router.put("/", summary=f"{RBAC_USER}Send images along")
def create(
    uncompress: bool = False,
    expiry: int = 0,
    files: list[UploadFile] = File(...),
    user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER)),
) -> dict[str, Any]:
    """Keep images for ``expiry`` seconds (MONAI Label's limit if 0), under an id of their own.

    With ``uncompress`` one file is sent, a zip or tar archive.
    """
    sessions, limits = _sessions(), app_instance().settings
    if uncompress and len(files) != 1:
        raise ClientError(f"uncompress: found {len(files)} files; expected one archive.")
    with tempfile.TemporaryDirectory(prefix="session-") as temporary:
        folder = Path(temporary) / "images"
        folder.mkdir()
        if uncompress:
            archive = Path(temporary) / "archive"
            save(files[0], archive)
            unpack(archive, folder, limits.max_unpacked_mb * 2**20)
        for file in () if uncompress else files:
            save(file, folder / _free(folder, safe_name(file.filename)))
        found = list(folder.iterdir())
        if not found:
            raise Refused("The archive is empty; expected the images of a case.")
        alone = len(found) == 1 and found[0].is_file()
        with _creating:
            _make_room(sessions, limits.max_sessions)
            number, info = sessions.add_session(str(found[0] if alone else folder), expiry)
    return {"session_id": number, "session_info": info.to_json()}


@router.get("/{session_id}", summary=f"{RBAC_USER}A session, or its image")
def get(
    session_id: str,
    update_ts: bool = False,
    image: bool = False,
    user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER)),
) -> Any:
    """What is known of a session; with ``image`` the file that was sent."""
    info = _find(session_id, update_ts)
    return _file(info) if image else info.to_json()


@router.delete("/{session_id}", summary=f"{RBAC_USER}End a session")
def remove(session_id: str, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))) -> dict[str, Any]:
    """Delete its images."""
    info = _find(session_id)
    _sessions().remove_session(session_id)
    return info.to_json()


def _sessions() -> Sessions:
    sessions = app_instance().sessions()
    if sessions is None:
        raise ClientError("Sessions are switched off (MONAI_LABEL_SESSIONS).", 406)
    return sessions


def _find(session_id: str, update_ts: bool = False) -> SessionInfo:
    info = _sessions().get_session(session_id, update_ts=update_ts) if is_session_id(session_id) else None
    if info is None:
        raise NotFound("No such session; it may have expired. Create one again.")
    return info


def _file(info: SessionInfo) -> Response:
    path = Path(info.image)
    if not path.is_file():
        raise Refused("The session holds several files; ask for its info instead.")
    return FileResponse(path, media_type=get_mime_type(str(path)), filename=path.name)


def _make_room(sessions: Sessions, most: int) -> None:
    store = Path(sessions.store_path)
    if _count(store) >= most:
        sessions.remove_expired()
    if _count(store) >= most:
        raise Busy(f"There are {most} sessions already; end one, or wait until one expires (--conf max_sessions).")


def _count(store: Path) -> int:
    return sum(is_session_id(path.name) for path in store.iterdir()) if store.is_dir() else 0


def _free(folder: Path, name: str) -> str:
    """The name, with a number before it if there is such a file already."""
    number = 1
    free = name
    while (folder / free).exists():
        number, free = number + 1, f"{number}_{name}"
    return free
