"""What clients and strategies note about cases and labels, kept over restarts."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from brats_clip.errors import InputError

from .durable import write_json
from .errors import Refused
from .labels.file_sums import signature


class DatastoreNotes:
    """A JSON file of notes: section, key, and a mapping of plain JSON. Safe for threads and processes.

    Args:
        path: the file.

    Raises:
        InputError: if it is there and damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._content: dict[str, dict[str, dict]] = {}
        self._seen: tuple | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._read()

    def get(self, section: str, key: str) -> dict[str, Any]:
        """A copy of what was noted; empty if nothing was."""
        with self._lock:
            return copy.deepcopy(self._read().get(section, {}).get(key, {}))

    def update(self, section: str, key: str, notes: Mapping[str, Any]) -> None:
        """Add to what was noted, and bring it to the disk; equal names are replaced.

        Raises:
            Refused: if it is no mapping of plain JSON.
        """
        try:
            plain = json.loads(json.dumps(dict(notes), allow_nan=False, ensure_ascii=False).encode())
        except (TypeError, ValueError):
            raise Refused("The info cannot be stored; expected a JSON object of text, numbers and lists.") from None
        with self._lock, FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=60):
            content = copy.deepcopy(self._read())
            content.setdefault(section, {}).setdefault(key, {}).update(plain)
            write_json(self.path, content)
            self._content, self._seen = content, signature(self.path)

    def _read(self) -> dict[str, dict[str, dict]]:
        now = signature(self.path)
        if now is not None and now != self._seen:
            try:
                content = json.loads(self.path.read_text(encoding="utf-8"))
                good = isinstance(content, dict) and all(isinstance(part, dict) for part in content.values())
            except (OSError, ValueError):
                good = False
            if not good:
                raise InputError(self.path, "a damaged file", "notes as JSON; delete it to do without")
            self._content, self._seen = content, now
        return self._content
