"""Routes to start and stop training, and to manage the versions of the weights."""

from __future__ import annotations

import os
import threading
import time
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, File, UploadFile
from fastapi.responses import FileResponse
from monailabel.config import RBAC_ADMIN, RBAC_USER
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel.utils.async_tasks.utils import processes, tasks

from ..errors import Busy, ClientError, NotFound, Refused
from ..models import as_json
from .authentication import Admin, AnyUser
from .inputs import App, received

router = APIRouter(prefix="/train", tags=["Train"])
model_router = APIRouter(prefix="/model", tags=["Model"])
TIMEOUT_S = 10.0
_starting = threading.Lock()  # of two simultaneous requests, the second finds the training running


@router.get("/", summary=f"{RBAC_USER}Status of the training")
def status(app: App, user: AnyUser, all: bool = False, check_if_running: bool = False) -> Any:
    """Return the latest training: its state, its last log lines, and its metrics so far (``progress``).

    The state is ``IDLE`` before the first training. With ``check_if_running``, 404 unless a training is running; with
    ``all``, a list of all trainings since the server started.
    """
    progress = app.train_progress()
    task, sentence = AsyncTask.status("train", all, check_if_running)
    if task is None:
        if check_if_running:
            raise NotFound(sentence)
        state = {"status": progress["status"].upper(), "progress": progress}  # from before the server started
        return [state] if all and progress["status"] != "idle" else [] if all else state
    if all:
        return [*task[:-1], {**task[-1], "progress": progress}]
    return {**task, "progress": progress}


@router.post("/", include_in_schema=False)
def run_all(app: App, user: Admin, params: dict | None = None) -> dict[str, Any]:
    """Start all trainers, with their options by name. OHIF's button sends this request."""
    options = params or {}
    return {name: {"result": _run(app, name, options.get(name) or {}), "detail": None} for name in app.trainers}


@router.post("/{model}", summary=f"{RBAC_ADMIN}Fine-tune on all labels so far")
def run(app: App, user: Admin, model: str, params: dict | None = None) -> dict[str, Any]:
    """Start a training in the background. A training that cannot work is refused before a process starts."""
    return _run(app, model, params or {})


@router.delete("/", summary=f"{RBAC_ADMIN}Stop the training")
def stop(app: App, user: Admin) -> Any:
    """Stop the training; its last checkpoint is kept, so it can be resumed. ``null`` if none is running."""
    with _starting:  # wait for a training that is being started
        _wait_for_process()
    task = AsyncTask.stop("train")
    deadline = time.monotonic() + TIMEOUT_S
    while app.train_progress()["status"] == "running" and time.monotonic() < deadline:
        time.sleep(0.05)  # a killed process takes a moment to end
    return task


def _wait_for_process() -> None:
    """Wait until the training that was just started has a process; it cannot be stopped earlier."""
    deadline = time.monotonic() + TIMEOUT_S
    while any(task["status"] == "SUBMITTED" for task in tasks("train")) and time.monotonic() < deadline:
        if processes("train"):  # the process of the previous training has not ended yet
            return
        time.sleep(0.05)


def _run(app: App, model: str, params: dict) -> dict[str, Any]:
    trainer = app.trainers.get(model)
    if trainer is None:
        raise NotFound(f"model: found {model[:60]!r}; expected one of {', '.join(app.trainers)}.")
    run_id = uuid4().hex
    with _starting:
        trainer.check(params, app.datastore())
        own = {"run": run_id, "server_pid": os.getpid()}
        task, sentence = AsyncTask.run("train", request={"model": model}, params={**params, **own})
        if task is None:
            raise Busy(sentence)
        _wait_for_process()
        if process := processes("train").get(task["id"]):
            trainer.announce(run_id, process.pid)
    return task


@model_router.get("/versions/", summary=f"{RBAC_USER}Versions of the weights")
def versions(app: App, user: AnyUser) -> dict[str, Any]:
    """Return all versions with their Dice on the validation cases, and the number of the one in use."""
    return {"in_use": app.models.current().number, "versions": [as_json(version) for version in app.models.versions()]}


@model_router.post("/versions/{number}/use", summary=f"{RBAC_ADMIN}Switch to a version of the weights")
def use(app: App, user: Admin, number: int) -> dict[str, Any]:
    """Use this version from the next segmentation on."""
    return as_json(app.models.use(number))


@model_router.get("/info/{model}", summary=f"{RBAC_ADMIN}Metadata of the weights in use")
def model_info(app: App, user: Admin, model: str) -> dict[str, Any]:
    """Return version, checksum and Dice."""
    app.infer_task(model)
    version = app.models.current()
    return as_json(version) | {"checksum": version.sha256, "modified_time": int(version.path.stat().st_mtime)}


@model_router.get("/{model}", summary=f"{RBAC_ADMIN}Download the weights in use")
def download(app: App, user: Admin, model: str) -> FileResponse:
    """Return the weights file."""
    app.infer_task(model)
    return FileResponse(app.models.current().path, filename=f"{model}.pt")


@model_router.put("/{model}", summary=f"{RBAC_ADMIN}Upload weights")
def upload(app: App, user: Admin, model: str, file: UploadFile = File(...)) -> dict[str, Any]:
    """Store the uploaded weights as a new version and switch to it. Refused unless they fit the network."""
    app.infer_task(model)
    with received(file) as path:
        try:
            app.try_weights(path)
        except ValueError as error:
            raise Refused(f"The weights do not fit: {error}".replace(str(path), "the upload")) from None
        return as_json(app.models.publish(path, {}, {"uploaded_by": user.username}))


@model_router.delete("/{model}", summary=f"{RBAC_ADMIN}Weights are never deleted")
def delete(user: Admin, model: str) -> None:
    """Refuse with 405."""
    raise ClientError("Weights are not deleted; POST /model/versions/NUMBER/use puts an earlier version to use.", 405)
