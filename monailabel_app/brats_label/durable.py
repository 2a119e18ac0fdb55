"""Atomic, durable file writes, and a cache of folders: each created atomically, the least recently used deleted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from brats_clip.images import atomic_write


@contextmanager
def durable_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; sync it to disk and rename it to ``path`` if the block succeeds.

    The previous file at ``path`` stays until then, and if the block raises.
    """
    with atomic_write(path) as temporary:
        yield temporary
        sync(temporary)
    sync(Path(path).parent)


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write JSON durably; see :func:`durable_write`."""
    with durable_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sync(path: Path) -> None:
    """Sync a file, or the directory entries of a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_DRAFT = ".tmp-"
_DRAFT_AGE_S = 3600.0  # a draft this old belongs to a process that was killed


def identity(path: Path) -> tuple[str, int, int]:
    """Return path, modification time (ns) and size (bytes) of a file; they differ once the file has changed.

    Raises:
        OSError: if there is no such file.
    """
    status = path.stat()
    return str(path.absolute()), status.st_mtime_ns, status.st_size


def key_of(*parts: object) -> str:
    """Return a short key for ``parts`` (plain values): the start of their SHA-256."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; rename it to ``target`` if the block succeeds, delete it if the block raises.

    If another process or thread has created ``target`` meanwhile, its folder stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.parent / f"{_DRAFT}{uuid4().hex}"
    draft.mkdir()
    try:
        yield draft
        for path in draft.iterdir():
            sync(path)
        sync(draft)
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def touch(files: Iterable[Path], cache: Path) -> None:
    """Mark the folders of these files as just used; ignore files outside the cache."""
    for folder in {path.parent for path in files if path.is_relative_to(cache)}:
        with suppress(OSError):
            os.utime(folder)


def trim(cache: Path, max_bytes: int, keep_s: float = 600.0) -> int:
    """Delete the least recently used folders until the rest fits, and temporary folders of killed processes.

    Args:
        cache: root folder. Each folder below it that directly holds files is kept or deleted as a whole.
        max_bytes: limit for all files together.
        keep_s: a folder used within this many seconds is kept, since it may be in use.

    Returns:
        The size of the remaining files in bytes.
    """
    now = time.time()
    total, folders = 0, []
    for name, _, files in os.walk(cache):
        folder = Path(name)
        with suppress(OSError):  # deleted by another thread meanwhile
            size = sum((folder / file).stat().st_size for file in files)
            total += size
            if files and folder != cache:
                folders.append((folder.stat().st_mtime, size, folder))
    for used, size, folder in sorted(folders):
        draft = any(part.startswith(_DRAFT) for part in folder.relative_to(cache).parts)
        if (draft and now - used > _DRAFT_AGE_S) or (not draft and total > max_bytes and now - used > keep_s):
            remove(folder)
            total -= size
    return total


def remove(folder: Path) -> None:
    """Delete a folder, which is renamed first: a partly deleted one must not be used."""
    gone = folder.with_name(f"{_DRAFT}{uuid4().hex}")
    with suppress(OSError):
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


class KeyedLocks:
    """One lock per key: ``with locks(key):``. A lock is dropped when no thread uses it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[Hashable, list] = {}

    @contextmanager
    def __call__(self, key: Hashable) -> Iterator[None]:
        with self._guard:
            entry = self._locks.setdefault(key, [threading.Lock(), 0])
            entry[1] += 1
        try:
            with entry[0]:
                yield
        finally:
            with self._guard:
                entry[1] -= 1
                if not entry[1]:
                    del self._locks[key]
