"""Versions of the weights: which are there, which are in use, and back to the earlier ones with one click."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, File, UploadFile
from fastapi.responses import FileResponse
from monailabel.config import RBAC_ADMIN, RBAC_USER, settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance

from ..errors import ClientError, Refused
from ..models import as_json
from .uploads import received

router = APIRouter(prefix="/model", tags=["Model"])


@router.get("/versions/", summary=f"{RBAC_USER}Versions of the weights")
def versions(user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))) -> dict[str, Any]:
    """All versions with their Dice on the validation cases, and the number of the one in use."""
    models = app_instance().models
    return {"in_use": models.current().number, "versions": [as_json(version) for version in models.versions()]}


@router.post("/versions/{number}/use", summary=f"{RBAC_ADMIN}Put a version of the weights to use")
def use(number: int, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))) -> dict[str, Any]:
    """From the next segmentation on, this version answers."""
    app = app_instance()
    version = app.models.use(number)
    app.look_for_work()
    return as_json(version)


@router.get("/info/{model}", summary=f"{RBAC_ADMIN}Facts about the weights in use")
def model_info(model: str, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))) -> dict[str, Any]:
    """Version, checksum and Dice."""
    app = app_instance()
    app.infer_task(model)
    version = app.models.current()
    return as_json(version) | {"checksum": version.sha256, "modified_time": int(version.path.stat().st_mtime)}


@router.get("/{model}", summary=f"{RBAC_ADMIN}Download the weights in use")
def download(model: str, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))) -> FileResponse:
    """The file of weights."""
    app = app_instance()
    app.infer_task(model)
    return FileResponse(app.models.current().path, filename=f"{model}.pt")


@router.put("/{model}", summary=f"{RBAC_ADMIN}Upload weights")
def upload(
    model: str, file: UploadFile = File(...), user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))
) -> dict[str, Any]:
    """Keep the uploaded weights as a new version and put it to use; refused unless they fit the network."""
    app = app_instance()
    app.infer_task(model)
    with received(file) as path:
        try:
            app.try_weights(path)
        except ValueError as error:
            raise Refused(f"The weights do not fit: {error}".replace(str(path), "the upload")) from None
        return as_json(app.models.publish(path, {}, {"uploaded_by": user.username}))


@router.delete("/{model}", summary=f"{RBAC_ADMIN}Weights are never deleted")
def delete(model: str, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))) -> None:
    """Say so."""
    raise ClientError("Weights are not deleted; POST /model/versions/NUMBER/use puts an earlier version to use.", 405)
