"""Training from the clients: refused before a process starts if it cannot work, and with live figures while it runs."""

from __future__ import annotations

import os
import threading
import time
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Depends
from monailabel.config import RBAC_ADMIN, RBAC_USER, settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel.utils.async_tasks.utils import processes, tasks

from ..errors import Busy, NotFound

router = APIRouter(prefix="/train", tags=["Train"])
PATIENCE_S = 10.0
_STARTING = threading.Lock()  # of two requests at once one is told that a training runs


@router.get("/", summary=f"{RBAC_USER}How the training goes")
def status(
    all: bool = False,
    check_if_running: bool = False,
    user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER)),
) -> Any:
    """The last training: its state, its last lines, and its figures so far (``progress``).

    ``IDLE`` before the first. With ``check_if_running`` 404 unless one runs; with ``all`` a list of all since the
    server started.
    """
    app = app_instance()
    progress = app.train_progress()
    task, sentence = AsyncTask.status("train", all, check_if_running)
    if task is None:
        if check_if_running:
            raise NotFound(sentence)
        told = {"status": progress["status"].upper(), "progress": progress}  # of before the server started
        return [told] if all and progress["status"] != "idle" else [] if all else told
    if all:
        return [*task[:-1], {**task[-1], "progress": progress}]
    return {**task, "progress": progress}


@router.post("/", include_in_schema=False)
def run_all(
    params: dict | None = None, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))
) -> dict[str, Any]:
    """What OHIF's button asks for: all trainers, with their options by name."""
    given = params or {}
    return {name: {"result": _run(name, given.get(name) or {}), "detail": None} for name in app_instance().trainers}


@router.post("/{model}", summary=f"{RBAC_ADMIN}Fine-tune on all labels so far")
def run(
    model: str, params: dict | None = None, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))
) -> dict[str, Any]:
    """Start a training in the background."""
    return _run(model, params or {})


@router.delete("/", summary=f"{RBAC_ADMIN}Stop the training")
def stop(user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))) -> Any:
    """Stop it; what it has learnt so far is kept and can be resumed. ``null`` if none runs."""
    with _STARTING:  # one that is just being started is told of first
        _begun()
    task = AsyncTask.stop("train")
    until = time.monotonic() + PATIENCE_S
    while app_instance().train_progress()["status"] == "running" and time.monotonic() < until:
        time.sleep(0.05)  # a process that was killed takes a moment to be gone
    return task


def _begun() -> None:
    """Wait for a training that was just started to have a process: without one it cannot be stopped."""
    until = time.monotonic() + PATIENCE_S
    while any(task["status"] == "SUBMITTED" for task in tasks("train")) and time.monotonic() < until:
        if processes("train"):  # it waits for the one before
            return
        time.sleep(0.05)


def _run(model: str, params: dict) -> dict[str, Any]:
    app = app_instance()
    trainer = app.trainers.get(model)
    if trainer is None:
        raise NotFound(f"model: found {model[:60]!r}; expected one of {', '.join(app.trainers)}.")
    run = uuid4().hex
    with _STARTING:
        trainer.check(params, app.datastore())
        own = {"run": run, "server_pid": os.getpid()}
        task, sentence = AsyncTask.run("train", request={"model": model}, params={**params, **own})
        if task is None:
            raise Busy(sentence)
        _begun()
        if process := processes("train").get(task["id"]):
            trainer.announce(run, process.pid)
    return task
