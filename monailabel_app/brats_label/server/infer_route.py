"""``POST /infer/{model}``."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, File, Form, UploadFile
from fastapi.background import BackgroundTasks
from fastapi.responses import FileResponse, Response
from monailabel.config import RBAC_USER, settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from requests_toolbelt import MultipartEncoder

from ..errors import ClientError, NotFound
from .middleware import is_session_id
from .uploads import read_params, received
from .viewer import answer_headers

router = APIRouter(prefix="/infer", tags=["Infer"])

# What the route tells the app; from a client it would name any file of this machine.
_OURS = frozenset({"uploaded", "name", "session_id", "as_dicom_seg", "user"})


class ResultType(str, Enum):
    """What to send back."""

    image = "image"
    json = "json"
    all = "all"
    dicom_seg = "dicom_seg"


@router.post("/{model}", summary=f"{RBAC_USER}Segment a case")
def infer(
    background_tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: str = Form("{}"),
    file: UploadFile = File(None),
    label: UploadFile = File(None),
    output: ResultType | None = None,
    user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER)),
) -> Response:
    """Segment the case that ``image`` belongs to; the answer lies on the grid of that image.

    ``output``: the label map, the figures, both as multipart (the default), or a DICOM SEG of the reference series.
    """
    given = {key: value for key, value in read_params(params).items() if key not in _OURS}
    request: dict[str, Any] = given | {"model": model, "image": image}
    request["user"] = user.username if settings.MONAI_LABEL_AUTH_ENABLE else str(request.get("client_id") or "")
    if file is None and not image and not session_id:
        raise ClientError("image: found none; expected the id of an image, a session, or a file.")
    app = app_instance()
    _may_save(app.infer_task(model).wants_to_submit(request) or bool(request.get("save_label")), user)
    if file is not None:
        with received(file) as path:
            result = app.infer(request | {"image": str(path), "uploaded": path, "name": file.filename or ""})
    elif session_id:
        if not is_session_id(session_id):
            raise NotFound("No such session; its id is the one that creating it returned.")
        result = app.infer(request | {"session_id": session_id})
    else:
        result = app.infer(request | {"as_dicom_seg": output == ResultType.dicom_seg})
    return _send(result, output, background_tasks)


def _may_save(saves: bool, user: User) -> None:
    """Saving by way of a segmentation takes what saving takes."""
    role = settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR
    if saves and settings.MONAI_LABEL_AUTH_ENABLE and role not in user.roles:
        raise ClientError(f'Role "{role}" is required to save the answer as a label.', 403)


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
