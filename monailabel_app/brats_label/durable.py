"""Files that outlive a power cut, and processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brats_clip.images import atomic_write

_PR_SET_PDEATHSIG = 1


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


def end_with(parent: int) -> None:
    """End this process, as a kill would, when ``parent`` is no longer the one that started it; at once if it is not.

    Linux does it, even while this process is stopped; elsewhere a thread looks twice a second.

    Args:
        parent: process id, as the parent knows it: one that is gone already cannot be asked.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def end_if_orphaned() -> None:
        if os.getppid() != parent:
            os._exit(1)

    def watch() -> None:
        while True:
            end_if_orphaned()
            time.sleep(0.5)

    end_if_orphaned()
    threading.Thread(target=watch, name="ends with its parent", daemon=True).start()
