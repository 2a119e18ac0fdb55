"""Training progress: written by the training process, read by the server for ``/train/``."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psutil
from ignite.engine import Engine, Events

from brats_clip.engines import CurveWriter
from brats_clip.images import atomic_write
from brats_clip.labels import REGIONS

from ..settings import Workspace

logger = logging.getLogger(__name__)

FILE, _INTERVAL_S = "progress.json", 1.0
BUSY = 75  # exit status of the training process: another training is using the workspace
IDLE = {"status": "idle", "epoch": 0, "sentence": "Nothing has been trained here yet."}


class ProgressFile:
    """Keeps ``progress.json`` up to date; each change replaces it atomically.

    Args:
        folder: the workspace's training folder.
        run: unique id of this training.
        pid: of the process that lives as long as the training; None for this process.

    Raises:
        psutil.NoSuchProcess: if that process has ended.
    """

    def __init__(self, folder: Path, run: str, pid: int | None = None) -> None:
        self.path = folder / FILE
        me = psutil.Process(pid)
        self._begun = time.time()
        self.state: dict[str, Any] = {
            "run": run,
            "status": "running",
            "stage": "preparing",
            "pid": me.pid,
            "process_started": me.create_time(),
            "started": _now(),
            "epoch": 0,
            "resumed_from": None,
            "beginning": "",
            "left_out": [],
            "loss": None,
            "dice": None,
            "before": None,
            "best": None,
            "epochs": [],
            "published": None,
            "sentence": "",
        }

    def update(self, **changes: Any) -> None:
        """Set entries and write the file."""
        self.state.update(changes, updated=_now(), seconds=round(time.time() - self._begun, 1))
        with atomic_write(self.path) as draft:
            draft.write_text(json.dumps(self.state, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Any] | None:
    """Return the content of ``progress.json``; None if it is missing or cannot be read."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as reason:
        logger.warning("%s cannot be read: %s", folder / FILE, type(reason).__name__)
        return None
    return content if isinstance(content, dict) and "status" in content else None


def progress(workspace: Workspace) -> dict[str, Any]:
    """Return the progress of the current training, or the outcome of the last one.

    Returns:
        ``status`` is "idle", "running", "done", "refused", "failed" or "stopped" (killed; it can be resumed), and
        ``sentence`` says it in words. During a training: ``stage`` ("starting", "preparing", "validating", "training",
        "publishing"), ``resumed_from`` (the epoch after which an interrupted training was resumed; None for a new one)
        and ``beginning`` (the same in words, with the reason), ``epoch`` (the last completed one, after which a restart
        would resume), ``total_epochs``, ``iteration`` of ``iterations`` in the epoch, ``loss``, ``dice`` (of the last
        validation: "mean", "WT", "TC", "ET"), ``before`` (the same for the weights in use), ``best`` (the same, with
        "epoch"), ``epochs`` (one row each), ``training_cases`` and ``validation_cases`` (numbers), ``left_out``
        (labelled cases that cannot be read, each with ``case`` and ``reason``), ``seconds``. At the end ``published``
        is the name of the new version, or None.
    """
    state = read(workspace.training)
    if state is None:
        return dict(IDLE)
    if state["status"] == "running" and not _alive(state):
        if state.get("epoch"):
            at = f"after epoch {state['epoch']} of {state.get('total_epochs', '?')}"
            sentence = f"Stopped {at}; start again with the same labels and options to resume there."
        else:
            sentence = "Stopped before an epoch was done; start again."
        state.update(status="stopped", sentence=sentence)
    return state


def is_running(workspace: Workspace, but: str = "") -> bool:
    """Return whether a training other than ``but`` is running on this workspace."""
    state = progress(workspace)
    return state["status"] == "running" and state["run"] != but


def stats(workspace: Workspace) -> dict[str, Any]:
    """Return the progress in the format of MONAI Label's ``train_stats``, for the progress bars of its clients.

    Clients take ``total_time`` as the sign that no training is running, and ``best_metric`` as the model's accuracy.
    """
    state = progress(workspace)
    if state["status"] == "idle":
        return {}
    scores = [part["mean"] for part in (state["before"], state["best"]) if part and part["mean"] is not None]
    best = state["best"] or {}
    clock = str(timedelta(seconds=int(state.get("seconds", 0))))
    return {
        "epoch": state["epoch"],
        "total_epochs": state.get("total_epochs", 1),
        "start_ts": int(datetime.fromisoformat(state["started"]).timestamp()),
        ("current_time" if state["status"] == "running" else "total_time"): clock,
        "best_metric": max(scores, default=0.0),
        "train": {"metrics": {"loss": state["loss"]}},
        "eval": {
            "metrics": state["dice"] or {},
            "key_metric_name": "mean",
            "best_metric": best.get("mean"),
            "best_metric_epoch": best.get("epoch"),
        },
        "progress": state,
    }


def dice_of(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return mean Dice and Dice per region from an evaluator's metrics; None for a value that is not finite."""
    names = {"mean": "val_mean_dice", **{region: f"val_dice_{region}" for region in REGIONS}}
    return {key: _number(metrics.get(name)) for key, name in names.items()}


def _number(value: Any) -> float | None:
    number = float("nan") if value is None else float(value)
    return round(number, 5) if abs(number) < float("inf") else None


def _alive(state: Mapping[str, Any]) -> bool:
    """Return whether the process that wrote ``state`` is running; its pid may have been reused by another process."""
    try:
        process = psutil.Process(int(state["pid"]))
        same = abs(process.create_time() - float(state["process_started"])) < 2
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return False


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class ReportProgress:
    """Writes the progress of a trainer and its evaluator to the progress file.

    Attach it to both after all other handlers, so that an epoch is reported once its checkpoint is saved.
    """

    def __init__(self, file: ProgressFile, curves: CurveWriter) -> None:
        self.file, self.curves = file, curves
        self._written = 0.0

    def attach_trainer(self, trainer: Engine) -> None:
        """Report steps and epochs."""
        trainer.add_event_handler(Events.STARTED, self._epoch_done)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_done)

    def attach_evaluator(self, evaluator: Engine) -> None:
        """Report validations."""
        evaluator.add_event_handler(Events.STARTED, self._validation_begins)
        evaluator.add_event_handler(Events.COMPLETED, self._validated)

    def rows(self) -> list[dict]:
        """Return loss and Dice of each completed epoch."""
        return [{"epoch": row["epoch"], "loss": row["loss"], "dice": dice_of(row)} for row in self.curves.rows]

    def _step(self, trainer: Engine) -> None:
        if time.monotonic() - self._written < _INTERVAL_S:
            return
        self._written = time.monotonic()
        length = trainer.state.epoch_length
        done = trainer.state.iteration - (trainer.state.epoch - 1) * length
        loss = trainer.state.output[0]["loss"] if trainer.state.output else None
        self.file.update(stage="training", iteration=done, iterations=length, loss=_rounded(loss))

    def _epoch_done(self, trainer: Engine) -> None:
        rows = self.rows()
        last = rows[-1]["loss"] if rows else None
        self.file.update(stage="training", epoch=trainer.state.epoch, epochs=rows, loss=last, best=best_of(rows))

    def _validation_begins(self, evaluator: Engine) -> None:
        self.file.update(stage="validating")

    def _validated(self, evaluator: Engine) -> None:
        self.file.update(dice=dice_of(evaluator.state.metrics))


def best_of(rows: list[dict]) -> dict | None:
    """Return epoch and Dice of the first row with the highest mean Dice; None if no row has a mean Dice."""
    scored = [row for row in rows if row["dice"]["mean"] is not None]
    best = max(scored, key=lambda row: row["dice"]["mean"], default=None)
    return best and {"epoch": best["epoch"], **best["dice"]}


def _rounded(loss) -> float | None:
    return None if loss is None else round(float(loss), 5)
