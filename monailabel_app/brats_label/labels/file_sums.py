"""Checksums of files, read anew only when a file has changed."""

from __future__ import annotations

import hashlib
from pathlib import Path


def signature(path: Path) -> tuple[int, ...] | None:
    """What tells whether a file was changed or replaced; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class FileSums:
    """SHA-256 of files, remembered."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, ...], str]] = {}

    def __call__(self, path: Path) -> str:
        """The checksum in hexadecimal; "" if there is no file."""
        now = signature(path)
        if now is None:
            return ""
        known = self._known.get(path)
        if known is None or known[0] != now:
            try:
                known = self._known[path] = (now, hashlib.sha256(path.read_bytes()).hexdigest())
            except FileNotFoundError:
                return ""
        return known[1]
