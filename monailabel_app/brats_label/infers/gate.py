"""How many inferences compute, and how many may wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Busy


class Gate:
    """Lets ``jobs`` in at a time; up to ``waiting`` more wait for their turn, others are turned away.

    Args:
        jobs: at least 1.
        waiting: at least 0.
    """

    def __init__(self, jobs: int, waiting: int) -> None:
        self.jobs, self.waiting = jobs, waiting
        self._turn = threading.Semaphore(jobs)
        self._inside = 0
        self._lock = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether somebody computes or waits."""
        return self._inside > 0

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Wait for a turn.

        Raises:
            Busy: if too many wait already.
        """
        with self.place(), self.turn():
            yield

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, inside ``place``."""
        with self._turn:
            yield

    @contextmanager
    def place(self) -> Iterator[None]:
        """Be one of those inside, without a turn: for what must not keep others from computing, such as a download.

        Raises:
            Busy: if too many are inside already.
        """
        with self._lock:
            if self._inside >= self.jobs + self.waiting:
                raise Busy(f"{self._inside} segmentations are running or waiting; try again in a few seconds.")
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
