"""How far the training is: written by the process that trains, read by the server that answers ``/train/``."""

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
BUSY = 75  # exit status of the process that trains: another training has the workspace
IDLE = {"status": "idle", "epoch": 0, "sentence": "Nothing has been trained here yet."}


class ProgressFile:
    """Keeps ``progress.json`` up to date; each change replaces it whole.

    Args:
        folder: the workspace's training folder.
        run: what to call this training; nobody else's progress has the name.
        pid: of the process that is alive while the training is; this one unless another is named.

    Raises:
        psutil.NoSuchProcess: if that one is gone.
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
        """Set entries and write."""
        self.state.update(changes, updated=_now(), seconds=round(time.time() - self._begun, 1))
        with atomic_write(self.path) as draft:
            draft.write_text(json.dumps(self.state, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Any] | None:
    """What ``progress.json`` holds as it stands; None if there is none or it cannot be read."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as reason:
        logger.warning("%s cannot be read: %s", folder / FILE, type(reason).__name__)
        return None
    return content if isinstance(content, dict) and "status" in content else None


def progress(workspace: Workspace) -> dict[str, Any]:
    """How far the training is that runs, or how the last one ended.

    Returns:
        ``status`` is "idle", "running", "done", "refused", "failed" or "stopped" (killed; it can be resumed), and
        ``sentence`` says it in words. While it runs: ``stage`` ("starting", "preparing", "validating", "training",
        "publishing"), ``resumed_from`` (the epoch after which an interrupted one was resumed; None for a new one)
        and ``beginning`` (the same in words, with the reason), ``epoch`` (the last one that a restart would resume
        after), ``total_epochs``, ``iteration`` of ``iterations`` in the epoch, ``loss``, ``dice`` (of the last
        validation: "mean", "WT", "TC", "ET"), ``before`` (the same for the weights in use), ``best`` (the same, with
        "epoch"), ``epochs`` (one row each), ``training_cases`` and ``validation_cases`` (how many), ``left_out``
        (labelled cases that cannot be read, each with ``case`` and ``reason``), ``seconds``. In the end ``published``
        names the new version, or is None.
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
    """Whether a process is training on this workspace, another than the training that is called ``but``."""
    state = progress(workspace)
    return state["status"] == "running" and state["run"] != but


def stats(workspace: Workspace) -> dict[str, Any]:
    """Progress in the words of MONAI Label's ``train_stats``, which its clients draw their bars from.

    They take ``total_time`` as the sign that no training runs, and ``best_metric`` for the accuracy of the model.
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
    """Mean Dice and Dice per region from an evaluator's metrics; None where one is not finite."""
    names = {"mean": "val_mean_dice", **{region: f"val_dice_{region}" for region in REGIONS}}
    return {key: _number(metrics.get(name)) for key, name in names.items()}


def _number(value: Any) -> float | None:
    number = float("nan") if value is None else float(value)
    return round(number, 5) if abs(number) < float("inf") else None


def _alive(state: Mapping[str, Any]) -> bool:
    """Whether the very process that wrote ``state`` is there; its number may have gone to another."""
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
    """Writes what a trainer and its evaluator have done to the progress file.

    Attach to both, after all else has been: an epoch is reported when its checkpoint is saved.
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
        """Loss and Dice of each epoch that is done."""
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
    """Epoch and Dice of the first row with the highest mean Dice; None where none has any."""
    scored = [row for row in rows if row["dice"]["mean"] is not None]
    best = max(scored, key=lambda row: row["dice"]["mean"], default=None)
    return best and {"epoch": best["epoch"], **best["dice"]}


def _rounded(loss) -> float | None:
    return None if loss is None else round(float(loss), 5)
