"""Files that outlive a power cut: whole and on the disk, or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brats_clip.images import atomic_write


@contextmanager
def durable_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; bring it to the disk and to its place when the block ends well.

    What was at ``path`` stays until then, and stays if the block raises.
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
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
