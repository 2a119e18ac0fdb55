"""Cases, their labels and earlier versions of these, images that are uploaded, and which case comes next."""

from __future__ import annotations

import hashlib
from enum import Enum
from pathlib import Path
from typing import Any

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import FileResponse
from monailabel.config import RBAC_ADMIN, RBAC_ANNOTATOR, RBAC_USER
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.utils.others.generic import get_mime_type

from ..errors import ClientError, NotFound
from .authentication import Admin, Annotator, AnyUser, annotator_name
from .inputs import App, read_params, received

router = APIRouter(prefix="/datastore", tags=["Datastore"])
sample_router = APIRouter(prefix="/activelearning", tags=["ActiveLearning"])
TAGS = tuple(tag.value for tag in (DefaultLabelTag.FINAL, DefaultLabelTag.ORIGINAL))
SUMS = ("MD5", "SHA1", "SHA256", "SHA512")


class Listing(str, Enum):
    """What to list of the datastore."""

    train = "train"
    stats = "stats"
    all = "all"


@sample_router.post("/{strategy}", summary=f"{RBAC_USER}The case to label next")
def next_sample(app: App, user: AnyUser, strategy: str, params: dict | None = None) -> dict[str, Any]:
    """A case without a label, chosen by ``strategy`` and leased to who asks. Empty if none is left."""
    params = params or {}
    who = annotator_name(user, params.get("client_id"))
    chosen = app.next_sample({**params, "client_id": who, "strategy": strategy})
    return {**chosen, **app.datastore().get_image_info(chosen["id"])} if chosen else {}


@router.get("/", summary=f"{RBAC_USER}Cases and labels")
def listing(app: App, user: AnyUser, output: Listing = Listing.stats) -> Any:
    """How many cases there are (``stats``), all that is known of each (``all``), or files to train on (``train``)."""
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


@router.head("/image", summary=f"{RBAC_USER}Whether there is such an image")
def check_image(app: App, user: AnyUser, image: str, check_sum: str | None = None) -> dict:
    """404 if there is none, or none with this sum: ``SHA256:...``, or one of ``SUMS`` in its place."""
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
    """The native file of the sequence that ``image`` shows."""
    return _download(app.datastore().get_image_uri(image))


@router.get("/image/info", summary=f"{RBAC_USER}What is known of an image")
def image_info(app: App, user: AnyUser, image: str) -> dict[str, Any]:
    """Which images were chosen and why, what is missing and left out, and what was noted."""
    return app.datastore().get_image_info(image)


@router.put("/image/info", summary=f"{RBAC_ANNOTATOR}Add to what is known of an image")
def update_image_info(app: App, user: Annotator, image: str, info: str = Form("{}")) -> dict:
    """Keep further facts with an image."""
    app.datastore().update_image_info(image, read_params(info, "info"))
    return {}


@router.put("/label", summary=f"{RBAC_ANNOTATOR}Save a label")
def save_label(
    app: App,
    user: Annotator,
    image: str,
    params: str = Form("{}"),
    tag: str = DefaultLabelTag.FINAL.value,
    label: UploadFile = File(...),
) -> dict[str, Any]:
    """Check a label and keep it as the next version; one that cannot be used is refused, and the earlier one stays."""
    tag = tag or DefaultLabelTag.FINAL.value
    if tag not in TAGS:
        raise ClientError(f"tag: found {tag[:40]!r}; expected one of {', '.join(TAGS)}.")
    info = read_params(params)
    info["user"] = annotator_name(user, info.get("client_id"))
    with received(label) as path:
        stored = app.datastore().store_label(image, path, tag, info)
    label_id = stored.case.case_id
    app.on_save_label(image, label_id, tag)
    return {"image": image, "label": label_id, **stored.to_dict()}


@router.head("/label", summary=f"{RBAC_USER}Whether there is such a label")
def check_label(app: App, user: AnyUser, image: str, tag: str) -> dict:
    """404 if there is none."""
    app.datastore().get_label_uri(image, tag)
    return {}


@router.get("/label", summary=f"{RBAC_USER}Download a label")
def label(app: App, user: AnyUser, label: str, tag: str) -> FileResponse:
    """The label on the grid of the sequence that ``label`` shows."""
    return _download(app.datastore().get_label_uri(label, tag))


@router.delete("/label", summary=f"{RBAC_ADMIN}Take a label out of use")
def remove_label(app: App, user: Admin, id: str, tag: str) -> dict[str, Any]:
    """Its versions stay, and can be restored."""
    stored = app.datastore().drop_label(id, tag, user.username)
    return {"label": id, **stored.to_dict()}


@router.get("/label/info", summary=f"{RBAC_USER}What is known of a label")
def label_info(app: App, user: AnyUser, label: str, tag: str) -> dict[str, Any]:
    """Who saved it and when, with which model, its volumes, and what was noted."""
    return app.datastore().get_label_info(label, tag)


@router.put("/label/info", summary=f"{RBAC_ANNOTATOR}Add to what is known of a label")
def update_label_info(app: App, user: Annotator, label: str, tag: str, info: str = Form("{}")) -> dict:
    """Keep further facts with a label."""
    app.datastore().update_label_info(label, tag, read_params(info, "info"))
    return {}


@router.put("/updatelabelinfo", include_in_schema=False)
def update_label_info_by_its_earlier_name(
    app: App, user: Annotator, label: str, tag: str, params: str = Form("{}")
) -> dict:
    """As ``PUT /datastore/label/info``."""
    app.datastore().update_label_info(label, tag, read_params(params))
    return {}


@router.get("/label/history", summary=f"{RBAC_USER}Versions of a case's label")
def label_history(app: App, user: AnyUser, image: str) -> list[dict[str, Any]]:
    """Who saved which version when, and with the help of which model; the last one counts."""
    return app.datastore().label_history(image)


@router.post("/label/restore", summary=f"{RBAC_ADMIN}Put an earlier version of a label to use")
def restore_label(app: App, user: Admin, image: str, version: int) -> dict[str, Any]:
    """The earlier version becomes the newest; none is lost."""
    return {"image": image, **app.datastore().restore_label(image, version, user.username).to_dict()}


@router.get("/dataset", summary=f"{RBAC_ANNOTATOR}Download the labelled cases as a ZIP file")
def dataset(app: App, user: Annotator, limit_cases: int | None = None) -> FileResponse:
    """In the layout of BraTS; at most ``limit_cases`` of them."""
    return _download(app.datastore().get_dataset_archive(limit_cases), "dataset.zip")


def _download(path: str, name: str = "") -> FileResponse:
    if not Path(path).is_file():
        raise NotFound("The file is gone from the disk of the server; ask again.")
    return FileResponse(path, media_type=get_mime_type(path), filename=name or Path(path).name)
