"""Walk a folder so that one can tell cheaply whether it has changed since."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["Stamps", "has_changed", "walk"]

# By folder: when it was changed, None where that is too recent (or unknown) to rely on.
Stamps = dict[Path, tuple[int, int] | None]

_TICK_NS = 50_000_000  # two changes within one tick of the file system's clock leave the same time


def walk(root: Path, skip: frozenset[Path], stamps: Stamps) -> Iterator[tuple[Path, list[str], OSError | None]]:
    """Yield every folder once, with its file names, links followed, and the error of one that cannot be opened.

    Args:
        root: where to start.
        skip: folders to leave out, as well as hidden ones and those that macOS adds to archives.
        stamps: filled, for ``has_changed``.
    """
    seen = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:  # a link that leads back up would never end
                continue
            seen.add((status.st_dev, status.st_ino))
            stamps[folder] = _stamp(status)
            if time.time_ns() - max(stamps[folder]) < _TICK_NS:
                stamps[folder] = None
            files, below = [], []
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith((".", "__MACOSX")):
                        continue
                    if entry.is_dir():
                        below.append(folder / entry.name)
                    elif entry.is_file():
                        files.append(entry.name)
        except OSError as problem:
            stamps.setdefault(folder, None)
            yield folder, [], problem
            continue
        waiting.extend(path for path in sorted(below, reverse=True) if path not in skip)
        yield folder, sorted(files), None


def has_changed(stamps: Mapping[Path, tuple[int, int] | None]) -> bool:
    """Whether a file or folder was added, removed or renamed since; no folder is opened for it."""
    for folder, before in stamps.items():
        try:
            if before is None or _stamp(folder.stat()) != before:
                return True
        except OSError:
            return True
    return False


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_ctime_ns  # the second changes with permissions, too
