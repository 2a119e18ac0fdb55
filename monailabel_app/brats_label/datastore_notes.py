"""What clients and strategies note about cases and labels, kept over restarts."""

from __future__ import annotations

import copy
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from brats_clip.errors import InputError

from .durable import sync
from .errors import Refused


class DatastoreNotes:
    """A file of notes: section, key, and a mapping of plain JSON. Safe for threads and processes.

    Each note is a line at the end of the file, so that it costs the same however much was noted before. A last line
    that a killed process left half-written counts as not there.

    Args:
        path: the file.

    Raises:
        InputError: if it is there and damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._content: dict[str, dict[str, dict]] = {}
        self._seen = (0, 0)  # which file, and how many bytes of it are in the content
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
            OSError: if it cannot be written; it is not noted then.
        """
        try:
            line = json.dumps([section, key, dict(notes)], allow_nan=False, ensure_ascii=False).encode() + b"\n"
        except (TypeError, ValueError):
            raise Refused("The info cannot be stored; expected a JSON object of text, numbers and lists.") from None
        with self._lock, FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=60):
            self._read()
            new = not self.path.exists()
            with self.path.open("ab") as file:
                file.truncate(self._seen[1])  # what follows the last whole line
                try:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(self._seen[1])
                    raise
            if new:
                sync(self.path.parent)
            self._read()

    def _read(self) -> dict[str, dict[str, dict]]:
        """Take in the lines that have come since."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._content, self._seen = {}, (0, 0)
            return self._content
        inode, done = self._seen
        if status.st_ino != inode or status.st_size < done:  # another file: all of it
            self._content, done = {}, 0
        if status.st_size > done:
            try:
                with self.path.open("rb") as file:
                    file.seek(done)
                    whole = file.read().rpartition(b"\n")[0]
                for line in whole.splitlines():
                    section, key, notes = json.loads(line)
                    self._content.setdefault(section, {}).setdefault(key, {}).update(notes)
            except (OSError, ValueError, TypeError, AttributeError):
                self._seen = (0, 0)
                raise InputError(self.path, "a damaged file", "notes as JSON; delete it to do without") from None
            done += len(whole) + 1 if whole else 0
        self._seen = (status.st_ino, done)
        return self._content
