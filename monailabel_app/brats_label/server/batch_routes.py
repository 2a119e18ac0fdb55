"""``/batch/infer``: all patients in one go. MONAI Label starts the app a second time for it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from monailabel.config import RBAC_ADMIN, RBAC_USER, settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance

from ..errors import NotFound
from ..infers.batch import ALL

router = APIRouter(prefix="/batch", tags=["Infer"])


@router.get("/infer", summary=f"{RBAC_USER}How the batch goes")
def status(
    all: bool = False,
    check_if_running: bool = False,
    user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER)),
) -> Any:
    """The last batch; with ``check_if_running`` 404 unless one runs, with ``all`` a list of all."""
    batch = app_instance().batch
    tasks = batch.tasks()
    if not tasks or (check_if_running and not batch.running):
        raise NotFound("No batch is running." if check_if_running else "There was no batch since the server started.")
    return tasks if all else tasks[-1]


@router.post("/infer/{model}", summary=f"{RBAC_ADMIN}Segment many cases")
def run(
    model: str,
    images: str = ALL,
    params: dict | None = None,
    run_sync: bool = False,
    user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN)),
) -> dict[str, Any]:
    """Keep the answer for each case as its ``original`` label. ``images``: all, labeled or unlabeled (by a person)."""
    batch = app_instance().batch
    task = batch.start(model, images, params or {})
    if run_sync:
        batch.wait()
        return batch.tasks()[-1]
    return task


@router.delete("/infer", summary=f"{RBAC_ADMIN}Stop the batch")
def stop(user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))) -> dict[str, Any] | None:
    """Stop after the case that is being segmented; ``null`` if none runs."""
    return app_instance().batch.stop()
