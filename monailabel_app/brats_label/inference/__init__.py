"""Segmentation for clients: one model that takes clicks, one that does not, batches of cases; and admission control."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Busy


class AdmissionControl:
    """Computes ``jobs`` inferences at a time; up to ``waiting`` more are admitted and queue, others are refused.

    Args:
        jobs: at least 1.
        waiting: at least 0.
    """

    def __init__(self, jobs: int, waiting: int) -> None:
        self.jobs, self.waiting = jobs, waiting
        self._slots = threading.Semaphore(jobs)
        self._admitted = 0
        self._lock = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether a request computes or waits."""
        return self._admitted > 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Be admitted, without a slot: for what must not keep others from computing, such as a download.

        Raises:
            Busy: if too many are admitted already.
        """
        with self._lock:
            if self._admitted >= self.jobs + self.waiting:
                raise Busy(f"{self._admitted} segmentations are running or waiting; try again in a few seconds.")
            self._admitted += 1
        try:
            yield
        finally:
            with self._lock:
                self._admitted -= 1

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait in the queue for a slot to compute in, inside ``admit``."""
        with self._slots:
            yield
