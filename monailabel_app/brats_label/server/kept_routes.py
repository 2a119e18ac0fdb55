"""Addresses of MONAI Label that its clients may ask, with what they send checked."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Form
from fastapi.responses import PlainTextResponse
from monailabel.config import RBAC_ADMIN, RBAC_USER, settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance

from ..errors import ClientError, NotFound
from .uploads import read_params

router = APIRouter()
SUMS = ("MD5", "SHA1", "SHA256", "SHA512")


@router.head("/datastore/image", summary=f"{RBAC_USER}Whether there is such an image", tags=["Datastore"])
def check_image(
    image: str, check_sum: str | None = None, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))
) -> dict:
    """404 if there is none, or none with this sum: ``SHA256:...``, or one of ``SUMS`` in its place."""
    kind, _, digest = (check_sum or "").rpartition(":")
    kind = kind.upper() or "SHA256"
    if kind not in SUMS:
        raise ClientError(f"check_sum: found {kind[:20]!r}; expected one of {', '.join(SUMS)}.")
    path = Path(app_instance().datastore().get_image_uri(image))
    if digest:
        with path.open("rb") as file:
            if hashlib.file_digest(file, kind.lower()).hexdigest() != digest.lower():
                raise NotFound("The image has another check sum.")
    return {}


@router.put("/datastore/updatelabelinfo", include_in_schema=False)
def update_label_info(
    label: str,
    tag: str,
    params: str = Form("{}"),
    user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR)),
) -> dict:
    """As ``PUT /datastore/label/info``, by its earlier name."""
    app_instance().datastore().update_label_info(label, tag, read_params(params))
    return {}


@router.get("/logs/gpu", summary=f"{RBAC_ADMIN}What nvidia-smi says", tags=["Others"])
def gpu(user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))) -> PlainTextResponse:
    """The GPU's state."""
    try:
        told = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        raise NotFound("This machine has no GPU that nvidia-smi knows.") from None
    return PlainTextResponse(told.stdout)


@router.api_route("/scoring/{method:path}", methods=["GET", "POST", "DELETE"], include_in_schema=False)
def scoring(method: str, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))) -> Any:
    """MONAI Label would start the app a second time, for methods that there are none of."""
    raise NotFound("Nothing is scored on request: the server scores by itself, and GET /info/ says how far it is.")
