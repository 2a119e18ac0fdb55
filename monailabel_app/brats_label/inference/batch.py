"""Batch inference: segment all cases, one after the other, with lower priority than requests of clients."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from threadpoolctl import threadpool_limits

from brats_clip.errors import BratsClipError

from ..errors import Busy, ClientError, NotFound, Refused
from ..labels import ORIGINAL
from .answers import answer_request

logger = logging.getLogger("brats_clip.batch")

ALL, LABELED, UNLABELED = "all", "labeled", "unlabeled"
IMAGES = (ALL, LABELED, UNLABELED)
LINES_KEPT = 20
# Not options of a batch: they apply to a single case, or the batch sets them itself.
_LEFT_TO_CASES = frozenset({"image", "submit", "save_label", "label_tag", "session_id", "uploaded", "user"})
_LEFT_TO_CASES |= {"history", "keep", "strokes"}


class Batch:
    """Runs one batch at a time, in a thread that pauses while clients are served.

    Answers are stored as ``original`` labels: pre-annotations, with which a patient still counts as unlabelled. A task
    has the keys that MONAI Label's clients expect: ``id``, ``status`` (RUNNING, DONE, STOPPED or ERROR), ``request``,
    ``start_ts``, ``end_ts``, ``details`` (the last lines), and numbers of cases: ``finished``, ``failed``, ``total``.
    """

    def __init__(self, app: Any, poll_s: float = 0.2) -> None:
        self._app, self._poll_s = app, poll_s
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._tasks: list[dict[str, Any]] = []
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether a batch is running."""
        return self._thread is not None and self._thread.is_alive()

    def tasks(self) -> list[dict[str, Any]]:
        """Return all batches since the server started, oldest first."""
        with self._lock:
            return [{**task, "details": list(task["details"])} for task in self._tasks]

    def start(self, model: str, images: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Start a batch.

        Args:
            model: name of the model.
            images: one of ``IMAGES``: all cases, or those with or without a final label.
            params: options of the model, and ``max_batch_size``: maximum number of cases, 0 for all.

        Raises:
            NotFound: for an unknown model.
            Refused: for options that cannot apply to many patients.
            Busy: if a batch is running.
        """
        task = self._app.infer_task(model)
        if (params.get("label_tag") or ORIGINAL) != ORIGINAL:
            raise Refused(f"label_tag: a batch saves suggestions, tagged {ORIGINAL}; a person submits final labels.")
        if params.get("report"):
            raise Refused("report: found one for many patients; each is segmented with the report that lies with it.")
        most = params.get("max_batch_size") or 0
        if isinstance(most, bool) or not isinstance(most, int) or most < 0:
            raise ClientError("max_batch_size: expected a number of cases, 0 for all.")
        options = {key: value for key, value in params.items() if key not in _LEFT_TO_CASES}
        task.prompt({**options, "image": ""})  # raises for an invalid option, before any case does
        with self._lock:
            if self.running:
                raise Busy("A batch is running already; wait for its end, or stop it.")
            case_ids = self._cases(images)[: most or None]
            request = {"model": model, "images": images, "label_tag": ORIGINAL, "max_batch_size": most}
            counts = {"total": len(case_ids), "finished": 0, "failed": 0}
            state = {"id": str(uuid4()), "status": "RUNNING", "request": request, "start_ts": _now(), "details": []}
            self._tasks.append(state | counts)
            self._stop.clear()
            work = (self._tasks[-1], case_ids, {**options, "model": model, "save_label": True})
            self._thread = threading.Thread(target=self._run, args=work, name="batch", daemon=True)
            self._thread.start()
        return self.tasks()[-1]

    def stop(self) -> dict[str, Any] | None:
        """Stop after the current case, and return the task; None if no batch is running."""
        if not self.running:
            return None
        self._stop.set()
        self.wait()
        return self.tasks()[-1]

    def wait(self) -> None:
        """Wait until the batch has ended."""
        if self._thread is not None:
            self._thread.join()

    def _cases(self, images: str) -> Sequence[str]:
        datastore = self._app.datastore()
        of: dict[str, Callable[[], Sequence[str]]] = {
            ALL: datastore.list_images,
            LABELED: datastore.get_labeled_images,
            UNLABELED: datastore.get_unlabeled_images,
        }
        if images not in of:
            raise NotFound(f"images: found {images[:40]!r}; expected one of {', '.join(IMAGES)}.")
        return sorted(of[images]())

    def _run(self, task: dict[str, Any], case_ids: Sequence[str], request: Mapping[str, Any]) -> None:
        # A second team of OpenMP threads would slow down requests even while it is idle: libgomp shortens the spinning
        # of all teams once there are more threads than cores.
        torch.get_num_threads()  # at its first use in a thread, torch sets the number of threads, and undoes the limit
        with threadpool_limits(1, user_api="openmp"):
            for case_id in case_ids:
                if self._stop.is_set():
                    break
                line, succeeded = self._segment(case_id, request)
                with self._lock:
                    task["finished" if succeeded else "failed"] += 1
                    task["details"] = [*task["details"], line][-LINES_KEPT:]
        complete = task["finished"] + task["failed"] == task["total"]
        with self._lock:
            ended = "DONE" if task["finished"] or not task["failed"] else "ERROR"
            task.update(status=ended if complete else "STOPPED", end_ts=_now())
        counts = (task[key] for key in ("total", "status", "finished", "failed"))
        logger.info("batch of %s cases ended %s: %s segmented, %s failed", *counts)

    def _segment(self, case_id: str, request: Mapping[str, Any]) -> tuple[str, bool]:
        while not self._stop.is_set():
            if self._app.admission.busy:
                self._stop.wait(self._poll_s)
                continue
            try:
                with self._app.admission.in_background(case_id):
                    answer = answer_request(self._app, {**request, "image": case_id})
            except Busy:
                self._stop.wait(self._poll_s)
            except (ClientError, BratsClipError) as error:
                return f"{case_id}: {getattr(error, 'sentence', type(error).__name__)}", False
            except Exception:
                logger.exception("case %s of a batch failed", case_id)
                return f"{case_id}: the server failed; its log says why.", False
            else:
                Path(answer["file"]).unlink(missing_ok=True)
                return f"{case_id}: version {answer['params']['saved']['version']}", True
        return f"{case_id}: stopped", False


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")
