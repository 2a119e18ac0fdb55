"""JSON that a command leaves for itself, to go on where it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path

from brats_clip.errors import InputError
from brats_clip.evaluation import atomic_write


def read_json(path: Path) -> dict:
    """What ``write_json`` wrote, or a config of the bundle.

    Raises:
        InputError: if the file is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as reason:
        raise InputError(path, f"malformed JSON ({reason})", "a file as it was written") from reason


def write_json(path: Path, content: object) -> None:
    """Write a file that is whole or not there."""
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
