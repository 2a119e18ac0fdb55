"""Routes to segment one case, a batch of cases, or images that a client uploads in a session."""

from __future__ import annotations

import json
import tempfile
import threading
from enum import Enum
from pathlib import Path
from typing import Any

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.background import BackgroundTasks
from fastapi.responses import FileResponse, Response
from monailabel.config import RBAC_ADMIN, RBAC_USER
from monailabel.utils.others.generic import get_mime_type
from monailabel.utils.sessions import SessionInfo, Sessions
from requests_toolbelt import MultipartEncoder

from ..errors import Busy, ClientError, NotFound, Refused
from ..inference.answers import answer_request, find_session, is_session_id
from ..inference.batch import ALL
from ..inference.options import InferOptions
from ..uploads import safe_name, unpack
from .authentication import Admin, AnyUser, annotator_name, may_annotate
from .inputs import App, read_params, received, save
from .viewer import answer_headers

router = APIRouter(prefix="/infer", tags=["Infer"])
batch_router = APIRouter(prefix="/batch/infer", tags=["Infer"])
session_router = APIRouter(prefix="/session", tags=["Session"])

# Keys that the route sets. From a client, they could name any file on this machine.
_OURS = frozenset({"uploaded", "name", "session_id", "as_dicom_seg", "user"})
_creating = threading.Lock()


class ResultType(str, Enum):
    """Format of the response."""

    image = "image"
    json = "json"
    all = "all"
    dicom_seg = "dicom_seg"


@router.post("/{model}", summary=f"{RBAC_USER}Segment a case")
def infer(
    app: App,
    user: AnyUser,
    background_tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: str = Form("{}"),
    file: UploadFile = File(None),
    label: UploadFile = File(None),
    output: ResultType | None = None,
) -> Response:
    """Segment the case that ``image`` belongs to; the label map is on the grid of that image.

    ``output``: the label map, its JSON metadata, both as multipart (default), or a DICOM SEG of the reference series.
    """
    given = {key: value for key, value in read_params(params).items() if key not in _OURS}
    request: dict[str, Any] = given | {"model": model, "image": image}
    request["user"] = annotator_name(user, request.get("client_id"))
    if file is None and not image and not session_id:
        raise ClientError("image: found none; expected the id of an image, a session, or a file.")
    app.infer_task(model)
    if InferOptions.read(request).saves and not may_annotate(user):  # requires the same role as saving a label
        raise ClientError('Role "monailabel-annotator" is required to save the answer as a label.', 403)
    if file is not None:
        with received(file) as path:
            result = answer_request(app, request | {"image": str(path), "uploaded": path, "name": file.filename or ""})
    elif session_id:
        result = answer_request(app, request | {"session_id": session_id})
    else:
        result = answer_request(app, request | {"as_dicom_seg": output == ResultType.dicom_seg})
    return _send(result, output, background_tasks)


def _send(result: dict[str, Any], output: ResultType | None, background_tasks: BackgroundTasks) -> Response:
    path, params = Path(result["file"]), result["params"]
    background_tasks.add_task(path.unlink, missing_ok=True)
    kind = "application/dicom" if path.suffix == ".dcm" else "application/octet-stream"
    if output == ResultType.json:
        return Response(json.dumps(params), media_type="application/json", background=background_tasks)
    if output in (ResultType.image, ResultType.dicom_seg):
        headers = answer_headers(params)
        return FileResponse(path, media_type=kind, filename=path.name, headers=headers, background=background_tasks)
    fields = {
        "params": (None, json.dumps(params), "application/json"),
        "image": (path.name, path.read_bytes(), kind),
    }
    message = MultipartEncoder(fields=fields)
    return Response(message.to_string(), media_type=message.content_type, background=background_tasks)


@batch_router.get("", summary=f"{RBAC_USER}Status of the batch")
def batch_status(app: App, user: AnyUser, all: bool = False, check_if_running: bool = False) -> Any:
    """Return the latest batch, or with ``all`` all of them; with ``check_if_running``, 404 unless one is running."""
    tasks = app.batch.tasks()
    if not tasks or (check_if_running and not app.batch.running):
        raise NotFound("No batch is running." if check_if_running else "There was no batch since the server started.")
    return tasks if all else tasks[-1]


@batch_router.post("/{model}", summary=f"{RBAC_ADMIN}Segment many cases")
def run_batch(
    app: App, user: Admin, model: str, images: str = ALL, params: dict | None = None, run_sync: bool = False
) -> dict[str, Any]:
    """Store each prediction as its case's ``original`` label. ``images``: all, labeled or unlabeled (by a person)."""
    task = app.batch.start(model, images, params or {})
    if run_sync:
        app.batch.wait()
        return app.batch.tasks()[-1]
    return task


@batch_router.delete("", summary=f"{RBAC_ADMIN}Stop the batch")
def stop_batch(app: App, user: Admin) -> dict[str, Any] | None:
    """Stop after the case that is being segmented; ``null`` if no batch is running."""
    return app.batch.stop()


@session_router.put("/", summary=f"{RBAC_USER}Upload images as a session")
def create_session(
    app: App, user: AnyUser, uncompress: bool = False, expiry: int = 0, files: list[UploadFile] = File(...)
) -> dict[str, Any]:
    """Keep the uploaded images for ``expiry`` seconds (0: MONAI Label's limit) under a session ID.

    With ``uncompress``, the upload is one zip or tar archive.
    """
    sessions, limits = _sessions(app), app.settings
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
            save(file, folder / _unused(folder, safe_name(file.filename)))
        found = list(folder.iterdir())
        if not found:
            raise Refused("The archive is empty; expected the images of a case.")
        single = len(found) == 1 and found[0].is_file()
        with _creating:
            _make_room(sessions, limits.max_sessions)
            session_id, info = sessions.add_session(str(found[0] if single else folder), expiry)
    return {"session_id": session_id, "session_info": info.to_json()}


@session_router.get("/{session_id}", summary=f"{RBAC_USER}A session, or its image")
def get_session(app: App, user: AnyUser, session_id: str, update_ts: bool = False, image: bool = False) -> Any:
    """Return the metadata of a session, or with ``image`` the uploaded file."""
    info = find_session(_sessions(app), session_id, update_ts)
    return _image(info) if image else info.to_json()


@session_router.delete("/{session_id}", summary=f"{RBAC_USER}End a session")
def remove_session(app: App, user: AnyUser, session_id: str) -> dict[str, Any]:
    """Delete the session and its images."""
    sessions = _sessions(app)
    info = find_session(sessions, session_id, update_ts=False)
    sessions.remove_session(session_id)
    return info.to_json()


def _sessions(app: App) -> Sessions:
    sessions = app.sessions()
    if sessions is None:
        raise ClientError("Sessions are switched off (MONAI_LABEL_SESSIONS).", 406)
    return sessions


def _image(info: SessionInfo) -> Response:
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


def _unused(folder: Path, name: str) -> str:
    """Return the name, prefixed with a number if there is such a file already."""
    number = 1
    unused = name
    while (folder / unused).exists():
        number, unused = number + 1, f"{number}_{name}"
    return unused
