"""One saved label, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FINAL, ORIGINAL = "final", "original"
TAGS = (FINAL, ORIGINAL)
FOUND = "found on disk"
ENDING = ".nii.gz"


@dataclass(frozen=True)
class Version:
    """A label as it was acknowledged, or the note that one was removed.

    Attributes:
        case_id: whose.
        number: counts the saves of the case from 1, whatever their tag.
        path: its file, which never changes; what ``labels/final`` holds is a copy of the newest.
        record: plain JSON: ``tag``, ``who``, ``client_id``, ``when`` (ISO 8601, UTC), ``model``, ``model_version``,
            ``comment``, ``sha256``, ``volumes_ml``, and what else the save was given.
    """

    case_id: str
    number: int
    path: Path
    record: Mapping[str, Any]

    @property
    def tag(self) -> str:
        """``final`` for what a person submitted, ``original`` for an automatic answer."""
        return self.record["tag"]

    @property
    def removed(self) -> bool:
        """Whether this is the note of a removal; then there is no file."""
        return bool(self.record.get("removed"))

    @property
    def as_drawn(self) -> Path | None:
        """The label as it was submitted, if it was drawn on another grid or with other numbers."""
        name = self.record.get("as_drawn")
        return self.path.with_name(name) if name else None
