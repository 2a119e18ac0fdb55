"""One saved label, its file, and what is known about it."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from brats_clip.labels import REGIONS

from ..errors import NotFound, Refused

FINAL, ORIGINAL = "final", "original"
TAGS = (FINAL, ORIGINAL)
FOUND = "found on disk"
ENDING = ".nii.gz"
ACCEPTED_FROM = "accepted_from"  # in the record of a final label that was accepted as it was: of which revision


@dataclass(frozen=True)
class Revision:
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


def prediction_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """``expected_dice`` and ``look_here`` of an answer's figures or a revision's record; empty where it has none."""
    expected = content.get("expected_dice") or {}
    known = {region: expected[region] for region in REGIONS if expected.get(region) is not None}
    return {"expected_dice": known, "look_here": list(content.get("look_here") or ())}


def tag_of(tag: str | None) -> str:
    """The tag that a client means; ``final`` if none is given.

    Raises:
        Refused: if labels have no such tag.
    """
    tag = str(getattr(tag, "value", tag) or FINAL)
    if tag not in TAGS:
        raise Refused(f"The tag of a label is {' or '.join(TAGS)}; found {tag[:64]!r}.")
    return tag


def safe_id(case_id: str) -> str:
    """The id itself, which names files.

    Raises:
        NotFound: if it could name another place; no case has such an id.
    """
    if not re.fullmatch(r"[\w@-][\w.@-]{0,249}", case_id):
        raise NotFound("The id is no case's: ids have letters, digits and . _ - @ only.")
    return case_id


def pack(image: nib.Nifti1Image) -> bytes:
    """A ``.nii.gz`` file of a label, the same bytes for the same label."""
    image = nib.Nifti1Image(np.asarray(image.dataobj).astype(np.uint8), image.affine)
    image.header.set_xyzt_units("mm")
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=5, mtime=0) as file:
        file.write(image.to_bytes())
    return packed.getvalue()


def signature(path: Path) -> tuple[int, ...] | None:
    """What tells whether a file was changed or replaced; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Checksums:
    """SHA-256 of files in hex, "" where there is none; read again only when a file has changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, ...], str]] = {}

    def __call__(self, path: Path) -> str:
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
