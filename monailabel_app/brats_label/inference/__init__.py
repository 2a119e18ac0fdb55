"""Segmentation for clients: one model that takes clicks, one that does not, batches of cases; and admission control."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from ..errors import Busy

_PAUSE_S = 0.01


class AdmissionControl:
    """Computes ``jobs`` inferences at a time; up to ``waiting`` more are admitted and queue, others are refused.

    A thread ``in_background`` is always admitted, takes no slot, and pauses at each ``give_way`` while others compute.

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
        """Whether a request computes or waits; what is in the background does not count."""
        return bool(self._admitted)

    @contextmanager
    def in_background(self, case_id: str) -> Iterator[None]:
        """What this thread does inside is for a batch, on this case."""
        self._background.case_id = case_id
        try:
            yield
        finally:
            del self._background.case_id

    def give_way(self) -> None:
        """In the background, pause while others compute; not for who asks for the same case and may wait for it."""
        case_id = getattr(self._background, "case_id", None)
        while case_id is not None and self._admitted and case_id not in self._admitted:
            time.sleep(_PAUSE_S)

    @contextmanager
    def admit(self, case_id: str = "") -> Iterator[None]:
        """Be admitted, without a slot: for what must not keep others from computing, such as a download.

        Raises:
            Busy: if too many are admitted already.
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
        """Wait in the queue for a slot to compute in, inside ``admit``."""
        with nullcontext() if hasattr(self._background, "case_id") else self._slots:
            yield
