"""Files that outlive a power cut: whole and on the disk, or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brats_clip.errors import InputError
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


def read_kept(path: Path, take: Callable[[Any], dict[str, Any]], expected: str) -> dict[str, Any]:
    """Read a JSON file that must not be lost; {} where there is none yet.

    Args:
        path: the file.
        take: makes of its content what is wanted; whatever it raises says that the file is damaged.
        expected: what the file should hold, and what to do, for the error.

    Raises:
        InputError: if it is damaged.
    """
    try:
        return take(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as reason:
        raise InputError(path, f"a damaged file ({type(reason).__name__})", expected) from reason


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
