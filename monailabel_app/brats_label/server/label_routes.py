"""Saving labels, their earlier versions, and images that are uploaded."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Depends, File, Form, UploadFile
from monailabel.config import RBAC_ADMIN, RBAC_ANNOTATOR, RBAC_USER, settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.utils.app import app_instance

from ..errors import ClientError
from .uploads import read_params, received

router = APIRouter(prefix="/datastore", tags=["Datastore"])
TAGS = tuple(tag.value for tag in (DefaultLabelTag.FINAL, DefaultLabelTag.ORIGINAL))


@router.put("/label", summary=f"{RBAC_ANNOTATOR}Save a label")
def save_label(
    image: str,
    params: str = Form("{}"),
    tag: str = DefaultLabelTag.FINAL.value,
    label: UploadFile = File(...),
    user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR)),
) -> dict[str, Any]:
    """Check a label and keep it as the next version; one that cannot be used is refused, and the earlier one stays."""
    tag = tag or DefaultLabelTag.FINAL.value
    if tag not in TAGS:
        raise ClientError(f"tag: found {tag[:40]!r}; expected one of {', '.join(TAGS)}.")
    info = read_params(params) | {"user": _who(user, params)}
    app = app_instance()
    with received(label) as path:
        stored = app.datastore().store_label(image, path, tag, info)
    label_id = stored.case.case_id
    app.on_save_label(image, label_id, tag)
    return {"image": image, "label": label_id, **stored.to_dict()}


@router.get("/label/history", summary=f"{RBAC_USER}Versions of a case's label")
def label_history(image: str, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))) -> list[dict[str, Any]]:
    """Who saved which version when, and with the help of which model; the last one counts."""
    return app_instance().label_history(image)


@router.post("/label/restore", summary=f"{RBAC_ADMIN}Put an earlier version of a label to use")
def restore_label(
    image: str, version: int, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))
) -> dict[str, Any]:
    """The earlier version becomes the newest; none is lost."""
    return app_instance().restore_label(image, version, user.username)


@router.delete("/label", summary=f"{RBAC_ADMIN}Take a label out of use")
def remove_label(id: str, tag: str, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))) -> dict[str, Any]:
    """Its versions stay, and can be restored."""
    return app_instance().remove_label(id, tag, user.username)


@router.put("/image", summary=f"{RBAC_ANNOTATOR}Upload a case as one 4D NIfTI file")
@router.put("/", include_in_schema=False)
def add_image(
    image: str | None = None,
    params: str = Form("{}"),
    file: UploadFile = File(...),
    user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR)),
) -> dict[str, str]:
    """Add a case; its id is ``image``, or the file's name."""
    name = (file.filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    with received(file) as path:
        case_id = image or name.removesuffix("".join(path.suffixes))
        return {"image": app_instance().datastore().add_image(case_id, str(path), read_params(params))}


@router.put("/image/info", summary=f"{RBAC_ANNOTATOR}Add to what is known of an image")
def update_image_info(
    image: str, info: str = Form("{}"), user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))
) -> dict:
    """Keep further facts with an image."""
    app_instance().datastore().update_image_info(image, read_params(info, "info"))
    return {}


@router.put("/label/info", summary=f"{RBAC_ANNOTATOR}Add to what is known of a label")
def update_label_info(
    label: str,
    tag: str,
    info: str = Form("{}"),
    user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR)),
) -> dict:
    """Keep further facts with a label."""
    app_instance().datastore().update_label_info(label, tag, read_params(info, "info"))
    return {}


def _who(user: User, params: str) -> str:
    """The user who logged in; without authentication the client's id for itself."""
    if settings.MONAI_LABEL_AUTH_ENABLE:
        return user.username
    return str(json.loads(params or "{}").get("client_id") or "")
