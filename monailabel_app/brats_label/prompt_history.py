"""History of the answers that a user got for a case: undo and redo for viewers that have neither."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, insert, select, update

from .errors import Conflict
from .store import Store
from .store import prompts as table

KEPT_STEPS = 30  # per person and case
KEPT_S = 30 * 24 * 3600.0


@dataclass(frozen=True)
class Step:
    """One answer of the history.

    Attributes:
        number, total: position of the answer, from 1, and number of answers.
        answer: its parameters, as the client got them.
        label: ``(X, Y, Z)`` uint8, BraTS values on the case's working grid.
    """

    number: int
    total: int
    answer: Mapping[str, Any]
    label: np.ndarray


class PromptHistory:
    """Keeps answers in the store, by case and user; safe for threads and processes.

    A new answer follows the current one and replaces the undone ones. The oldest answers are dropped first.

    Args:
        store: has the table ``prompts``.
        clock: returns the seconds since 1970.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock

    def add(self, case_id: str, who: str, answer: Mapping[str, Any], label: np.ndarray) -> None:
        """Add an answer after the current one; ``answer`` and ``label`` are as in ``Step``."""
        now, row = self._clock(), {"case_id": case_id, "who": who, "current": 1, "answer": dict(answer)}
        packed = _pack(label)
        with self._store.write() as connection:
            ids, at = _steps(connection, case_id, who)
            stale = ids[at + 1 :] + ids[: max(0, at + 2 - KEPT_STEPS)]
            connection.execute(delete(table).where(table.c.id.in_(stale) | (table.c.since < now - KEPT_S)))
            connection.execute(update(table).where(_of(case_id, who)).values(current=0))
            connection.execute(insert(table).values(**row, since=now, label=packed))

    def current(self, case_id: str, who: str) -> Step | None:
        """Return the current answer of a user; None if there is none yet."""
        with self._store.read() as connection:
            ids, at = _steps(connection, case_id, who)
            return None if at < 0 else _read(connection, ids, at)

    def step(self, case_id: str, who: str, by: int) -> Step:
        """Undo (-1) or redo (1); return the answer that is current then.

        Raises:
            Conflict: if there is nothing to undo or to redo.
        """
        with self._store.write() as connection:
            ids, at = _steps(connection, case_id, who)
            if not 0 <= at + by < len(ids):
                there = f"this is answer {at + 1} of {len(ids)}" if ids else "there is no answer yet"
                what = "undo" if by < 0 else "redo"
                raise Conflict(f"Case {case_id}: nothing to {what}; {there} that {who or 'this client'} got.")
            connection.execute(update(table).where(_of(case_id, who)).values(current=0))
            connection.execute(update(table).where(table.c.id == ids[at + by]).values(current=1))
            return _read(connection, ids, at + by)


def _of(case_id: str, who: str):
    return (table.c.case_id == case_id) & (table.c.who == who)


def _steps(connection: Connection, case_id: str, who: str) -> tuple[list[int], int]:
    """Return the ids, oldest first, and the index of the current one; -1 without any."""
    rows = connection.execute(select(table.c["id", "current"]).where(_of(case_id, who)).order_by(table.c.id)).all()
    return [row.id for row in rows], max((at for at, row in enumerate(rows) if row.current), default=len(rows) - 1)


def _read(connection: Connection, ids: list[int], at: int) -> Step:
    answer, label = connection.execute(select(table.c["answer", "label"]).where(table.c.id == ids[at])).one()
    return Step(at + 1, len(ids), answer, _unpack(label))


def _pack(label: np.ndarray) -> bytes:
    """Compress only the words of 8 voxels that are not 0: compressing all takes as long as computing an answer."""
    flat = np.ascontiguousarray(label, np.uint8).ravel()
    words = np.pad(flat, (0, -flat.size % 8)).view(np.uint64)
    (places,) = np.nonzero(words)
    return struct.pack("<4I", *label.shape, len(places)) + zlib.compress(
        places.astype(np.uint32).tobytes() + words[places].tobytes(), 1
    )


def _unpack(content: bytes) -> np.ndarray:
    *shape, count = struct.unpack_from("<4I", content)
    data = zlib.decompress(content[16:])
    size = int(np.prod(shape))
    words = np.zeros(-(-size // 8), np.uint64)
    words[np.frombuffer(data, np.uint32, count)] = np.frombuffer(data, np.uint64, count, 4 * count)
    return words.view(np.uint8)[:size].reshape(shape)
