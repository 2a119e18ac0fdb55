"""A server that does not answer is waited for once, not by everybody in turn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import requests

from ..errors import Unreachable

REMEMBER_S = 5.0  # a server that has come back is noticed after so long
SLOW_S = 1.0  # what fails sooner, such as a refused connection, holds nobody up


class Outage:
    """Remembers for some seconds that a server kept somebody waiting in vain. Safe to use from several threads."""

    def __init__(self) -> None:
        self._last: tuple[float, str] | None = None

    def check(self, since: float | None = None) -> None:
        """Answer with the failure of another caller.

        Args:
            since: on the clock of ``time.monotonic``; some seconds ago if not given.

        Raises:
            Unreachable: if there was one, and the server has not answered after it.
        """
        last = self._last
        if last is not None and last[0] >= (time.monotonic() - REMEMBER_S if since is None else since):
            raise Unreachable(last[1])

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Remember what goes wrong inside, and that the server answers if nothing does."""
        begun = time.monotonic()
        try:
            yield
        except (Unreachable, requests.Timeout, requests.ConnectionError) as problem:
            says = (
                problem.sentence if isinstance(problem, Unreachable) else "The DICOMweb server does not answer in time."
            )
            if time.monotonic() - begun >= SLOW_S:
                self._last = time.monotonic(), says
            raise
        self._last = None
