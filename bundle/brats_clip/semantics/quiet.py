"""Suppress the messages that open_clip sends to the root logger while it loads a model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import open_clip

_OPEN_CLIP = Path(open_clip.__file__).parent


@contextmanager
def quiet_open_clip() -> Iterator[None]:
    """Inside the block, log only warnings and errors of open_clip; messages of other packages are unaffected."""
    root = logging.getLogger()
    root.addFilter(_is_wanted)
    try:
        yield
    finally:
        root.removeFilter(_is_wanted)


def _is_wanted(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or _OPEN_CLIP not in Path(record.pathname).parents
