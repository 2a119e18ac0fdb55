"""A cache of cases with a memory budget; the least recently used data is dropped first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from ..errors import InputError
from .encoded_case import EncodedCase
from .known_case import KnownCase


class CaseCache:
    """Keeps encoded cases and their sources by key; thread-safe.

    If memory is short, encodings are dropped first, since they can be computed again, then images given in memory.

    Args:
        budget: bytes. The most recently used case is always kept, however large it is.

    Raises:
        InputError: if the budget is not a number, or negative.
    """

    def __init__(self, budget: int) -> None:
        if isinstance(budget, bool) or not isinstance(budget, int | float) or not budget >= 0:
            raise InputError("cache_bytes", repr(budget), "a number of bytes, 0 or more")
        self.budget = budget
        self._cases: OrderedDict[Hashable, EncodedCase] = OrderedDict()
        self._known: OrderedDict[Hashable, KnownCase] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, key: Hashable, known: KnownCase) -> None:
        """Keep the sources of a case."""
        with self._lock:
            self._known[key] = known
            self._known.move_to_end(key)
        self.trim()

    def known(self, key: Hashable) -> KnownCase | None:
        """Return the sources of a case and mark it as most recently used; None if it was never set, or dropped."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def get(self, key: Hashable) -> EncodedCase | None:
        """Return an encoded case and mark it as most recently used; None if it is not cached."""
        with self._lock:
            if key in self._cases:
                self._cases.move_to_end(key)
            return self._cases.get(key)

    def put(self, key: Hashable, case: EncodedCase) -> None:
        """Add an encoded case."""
        with self._lock:
            self._cases[key] = case
            self._cases.move_to_end(key)
        self.trim()

    def trim(self) -> None:
        """Drop the least recently used data until the rest fits; call this when a case has grown."""
        with self._lock:
            while len(self._cases) > 1 and self._bytes() > self.budget:
                self._cases.popitem(last=False)
            for known in list(self._known.values())[:-1]:
                if self._bytes() <= self.budget:
                    break
                if known.nbytes:
                    known.sources = None

    def drop(self, key: Hashable) -> None:
        """Remove a case."""
        with self._lock:
            self._cases.pop(key, None)
            self._known.pop(key, None)

    def __len__(self) -> int:
        """Number of encoded cases."""
        return len(self._cases)

    @property
    def nbytes(self) -> int:
        """Memory of all cases, in bytes."""
        with self._lock:
            return self._bytes()

    def _bytes(self) -> int:
        return sum(case.nbytes for case in (*self._cases.values(), *self._known.values()))
