"""Inference for clients: a model with clicks and one without, batch inference, and admission control."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from ..errors import Busy

_PAUSE_S = 0.01


class AdmissionControl:
    """Limits inference to ``jobs`` requests at a time; up to ``waiting`` more are queued, others are refused.

    A thread ``in_background`` is always admitted, takes no slot, and pauses in ``give_way`` while requests are served.

    Args:
        jobs: at least 1.
        waiting: at least 0.
    """

    def __init__(self, jobs: int, waiting: int) -> None:
        self.jobs, self.waiting = jobs, waiting
        self._slots = threading.Semaphore(jobs)
        self._admitted: list[str] = []  # case ids
        self._lock, self._background = threading.Lock(), threading.local()

    @property
    def busy(self) -> bool:
        """Whether a request is running or queued; background work does not count."""
        return bool(self._admitted)

    @contextmanager
    def in_background(self, case_id: str) -> Iterator[None]:
        """Mark the work of this thread inside the block as background work on this case."""
        self._background.case_id = case_id
        try:
            yield
        finally:
            del self._background.case_id

    def give_way(self) -> None:
        """In the background, pause while requests are admitted, unless one is for the same case and may wait for it."""
        case_id = getattr(self._background, "case_id", None)
        while case_id is not None and self._admitted and case_id not in self._admitted:
            time.sleep(_PAUSE_S)

    @contextmanager
    def admit(self, case_id: str = "") -> Iterator[None]:
        """Admit a request, without a slot, so that waiting (for a download, for instance) does not block others.

        Raises:
            Busy: if too many requests are admitted already.
        """
        if hasattr(self._background, "case_id"):
            yield
            return
        with self._lock:
            if len(self._admitted) >= self.jobs + self.waiting:
                raise Busy(f"{len(self._admitted)} segmentations are running or waiting; try again in a few seconds.")
            self._admitted.append(case_id)
        try:
            yield
        finally:
            with self._lock:
                self._admitted.remove(case_id)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait in the queue for a slot to compute in; to be used inside ``admit``."""
        with nullcontext() if hasattr(self._background, "case_id") else self._slots:
            yield
