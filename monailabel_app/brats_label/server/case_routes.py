"""Routes for cases, their labels and label versions, image uploads, and the next case to label."""

from __future__ import annotations

import hashlib
from enum import Enum
from pathlib import Path
from typing import Any

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import FileResponse, Response
from monailabel.config import RBAC_ADMIN, RBAC_ANNOTATOR, RBAC_USER
from monailabel.utils.others.generic import get_mime_type

from ..errors import ClientError, NotFound
from ..labels import FINAL, TAGS
from .authentication import Admin, Annotator, AnyUser, annotator_name
from .inputs import App, read_params, received

router = APIRouter(prefix="/datastore", tags=["Datastore"])
sample_router = APIRouter(prefix="/activelearning", tags=["ActiveLearning"])
SUMS = ("MD5", "SHA1", "SHA256", "SHA512")


class Listing(str, Enum):
    """Contents of a listing of the datastore."""

    train = "train"
    stats = "stats"
    all = "all"


@sample_router.post("/{strategy}", summary=f"{RBAC_USER}The case to label next")
def next_sample(app: App, user: AnyUser, strategy: str, params: dict | None = None) -> dict[str, Any]:
    """Choose a case without a label by ``strategy``, and lease it to the client. Empty if none is left."""
    params = params or {}
    who = annotator_name(user, params.get("client_id"))
    chosen = app.next_sample({**params, "client_id": who, "strategy": strategy})
    return {**chosen, **app.datastore().get_image_info(chosen["id"])} if chosen else {}


@router.get("/", summary=f"{RBAC_USER}Cases and labels")
def listing(app: App, user: AnyUser, output: Listing = Listing.stats) -> Any:
    """Return case counts (``stats``), all metadata of each case (``all``), or files to train on (``train``)."""
    datastore = app.datastore()
    return {Listing.all: datastore.json, Listing.train: datastore.datalist, Listing.stats: datastore.status}[output]()


@router.put("/image", summary=f"{RBAC_ANNOTATOR}Upload a case as one 4D NIfTI file")
@router.put("/", include_in_schema=False)
def add_image(
    app: App, user: Annotator, image: str | None = None, params: str = Form("{}"), file: UploadFile = File(...)
) -> dict[str, str]:
    """Add a case; its id is ``image``, or the file's name."""
    name = (file.filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    with received(file) as path:
        case_id = image or name.removesuffix("".join(path.suffixes))
        return {"image": app.datastore().add_image(case_id, str(path), read_params(params))}


@router.delete("/image", summary=f"{RBAC_ADMIN}Images are never removed")
@router.delete("/", include_in_schema=False)
def remove_image(app: App, user: Admin, id: str) -> dict:
    """Refused: images are not deleted through the web."""
    app.datastore().remove_image(id)
    return {}


@router.head("/image", summary=f"{RBAC_USER}Check whether an image exists")
def check_image(app: App, user: AnyUser, image: str, check_sum: str | None = None) -> dict:
    """404 if the image does not exist or has another checksum: ``SHA256:...``, or another of ``SUMS``."""
    kind, _, digest = (check_sum or "").rpartition(":")
    kind = kind.upper() or "SHA256"
    if kind not in SUMS:
        raise ClientError(f"check_sum: found {kind[:20]!r}; expected one of {', '.join(SUMS)}.")
    path = Path(app.datastore().get_image_uri(image))
    if digest:
        with path.open("rb") as file:
            if hashlib.file_digest(file, kind.lower()).hexdigest() != digest.lower():
                raise NotFound("The image has another check sum.")
    return {}


@router.get("/image", summary=f"{RBAC_USER}Download an image")
def image(app: App, user: AnyUser, image: str) -> FileResponse:
    """Return the native file of the sequence that ``image`` refers to."""
    return _download(app.datastore().get_image_uri(image))


@router.get("/image/info", summary=f"{RBAC_USER}Metadata of an image")
def image_info(app: App, user: AnyUser, image: str) -> dict[str, Any]:
    """Return the chosen images and the reasons, missing sequences, images left out, and added metadata."""
    return app.datastore().get_image_info(image)


@router.put("/image/info", summary=f"{RBAC_ANNOTATOR}Add metadata to an image")
def update_image_info(app: App, user: Annotator, image: str, info: str = Form("{}")) -> dict:
    """Store further metadata with an image."""
    app.datastore().update_image_info(image, read_params(info, "info"))
    return {}


@router.put("/label", summary=f"{RBAC_ANNOTATOR}Save a label")
def save_label(
    app: App,
    user: Annotator,
    image: str,
    params: str = Form("{}"),
    tag: str = FINAL,
    label: UploadFile = File(...),
) -> dict[str, Any]:
    """Validate a label and store it as the next version. An invalid label is refused, and the current one stays."""
    tag = tag or FINAL
    if tag not in TAGS:
        raise ClientError(f"tag: found {tag[:40]!r}; expected one of {', '.join(TAGS)}.")
    info = read_params(params)
    info["user"] = annotator_name(user, info.get("client_id"))
    with received(label) as path:
        stored = app.datastore().store_label(image, path, tag, info)
    label_id = stored.case.case_id
    app.on_save_label(image, label_id, tag)
    return {"image": image, "label": label_id, **stored.to_dict()}


@router.head("/label", summary=f"{RBAC_USER}Check whether a label exists")
def check_label(app: App, user: AnyUser, image: str, tag: str) -> dict:
    """404 if the label does not exist."""
    app.datastore().get_label_uri(image, tag)
    return {}


@router.get("/label", summary=f"{RBAC_USER}Download a label")
def label(app: App, user: AnyUser, label: str, tag: str) -> Response:
    """Return the label on the grid of the sequence that ``label`` refers to."""
    file = _download(app.datastore().get_label_uri(label, tag))
    # Read at once: another annotator's save may replace the file while it is sent.
    name = {"content-disposition": file.headers["content-disposition"]}
    return Response(Path(file.path).read_bytes(), media_type=file.media_type, headers=name)


@router.delete("/label", summary=f"{RBAC_ADMIN}Withdraw a label")
def remove_label(app: App, user: Admin, id: str, tag: str) -> dict[str, Any]:
    """Withdraw the label; its versions are kept and can be restored."""
    stored = app.datastore().withdraw_label(id, tag, user.username)
    return {"label": id, **stored.to_dict()}


@router.get("/label/info", summary=f"{RBAC_USER}Metadata of a label")
def label_info(app: App, user: AnyUser, label: str, tag: str) -> dict[str, Any]:
    """Return who saved the label, when and with which model, its volumes, and added metadata."""
    return app.datastore().get_label_info(label, tag)


@router.put("/label/info", summary=f"{RBAC_ANNOTATOR}Add metadata to a label")
def update_label_info(app: App, user: Annotator, label: str, tag: str, info: str = Form("{}")) -> dict:
    """Store further metadata with a label."""
    app.datastore().update_label_info(label, tag, read_params(info, "info"))
    return {}


@router.put("/updatelabelinfo", include_in_schema=False)
def update_label_info_by_its_earlier_name(
    app: App, user: Annotator, label: str, tag: str, params: str = Form("{}")
) -> dict:
    """Alias of ``PUT /datastore/label/info``."""
    app.datastore().update_label_info(label, tag, read_params(params))
    return {}


@router.get("/label/history", summary=f"{RBAC_USER}Versions of a case's label")
def label_history(app: App, user: AnyUser, image: str) -> list[dict[str, Any]]:
    """Return who saved each version, when, and with which model. The last version is the current one."""
    return app.datastore().label_history(image)


@router.post("/label/restore", summary=f"{RBAC_ADMIN}Restore an earlier version of a label")
def restore_label(app: App, user: Admin, image: str, version: int) -> dict[str, Any]:
    """Make the earlier version the newest one. No version is deleted."""
    return {"image": image, **app.datastore().restore_label(image, version, user.username).to_dict()}


@router.get("/dataset", summary=f"{RBAC_ANNOTATOR}Download the labelled cases as a ZIP file")
def dataset(app: App, user: Annotator, limit_cases: int | None = None) -> FileResponse:
    """Return at most ``limit_cases`` cases, in the BraTS layout."""
    return _download(app.datastore().get_dataset_archive(limit_cases), "dataset.zip")


def _download(path: str, name: str = "") -> FileResponse:
    if not Path(path).is_file():
        raise NotFound("The file is gone from the disk of the server; ask again.")
    return FileResponse(path, media_type=get_mime_type(path), filename=name or Path(path).name)
