"""Encoded cases within a budget of memory: the one that was not used for longest goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from ..errors import InputError
from .encoded_case import EncodedCase


class CaseCache:
    """Keeps cases by key; safe to use from several threads.

    Args:
        budget: bytes. The case that is being used stays, however large it is.

    Raises:
        InputError: if the budget is negative.
    """

    def __init__(self, budget: int) -> None:
        if budget < 0:
            raise InputError("cache_bytes", str(budget), "0 or more bytes")
        self.budget = budget
        self._cases: OrderedDict[Hashable, EncodedCase] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> EncodedCase | None:
        """The case, which now counts as used last; None if it is not here."""
        with self._lock:
            if key in self._cases:
                self._cases.move_to_end(key)
            return self._cases.get(key)

    def put(self, key: Hashable, case: EncodedCase) -> None:
        """Add a case."""
        with self._lock:
            self._cases[key] = case
            self._cases.move_to_end(key)
        self.trim()

    def trim(self) -> None:
        """Drop the cases used longest ago until the rest fits; to be called when a case has grown."""
        with self._lock:
            while len(self._cases) > 1 and self._bytes() > self.budget:
                self._cases.popitem(last=False)

    def drop(self, key: Hashable) -> None:
        """Forget a case."""
        with self._lock:
            self._cases.pop(key, None)

    def __len__(self) -> int:
        return len(self._cases)

    @property
    def nbytes(self) -> int:
        """Memory of all cases, in bytes."""
        with self._lock:
            return self._bytes()

    def _bytes(self) -> int:
        return sum(case.nbytes for case in self._cases.values())
