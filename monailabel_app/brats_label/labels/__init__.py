"""A revision of a label: its file and its metadata."""

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
ACCEPTED_FROM = "accepted_from"  # in the record of a label accepted without a change: the pre-annotation's revision


@dataclass(frozen=True)
class Revision:
    """A saved label, or the record of a removal.

    Attributes:
        case_id: id of the case.
        number: counts the revisions of the case from 1, for all tags together.
        path: the label file, which never changes; ``labels/final`` has a copy of the newest.
        record: plain JSON: ``tag``, ``who``, ``client_id``, ``when`` (ISO 8601, UTC), ``model``, ``model_version``,
            ``comment``, ``sha256``, ``volumes_ml``, and any other metadata of the save.
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
        """Whether this revision records a removal; it has no file then."""
        return bool(self.record.get("removed"))

    @property
    def as_drawn(self) -> Path | None:
        """The label on the grid that it was drawn on, if resampling changed it."""
        name = self.record.get("as_drawn")
        return self.path.with_name(name) if name else None


def prediction_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the predicted quality in an answer's parameters or a revision's record.

    Returns:
        ``expected_dice`` and ``look_here``, empty if absent, and ``quality_fitted``: False if the estimates were not
        fitted for the weights that made the answer, as after a fine-tuning.
    """
    expected = content.get("expected_dice") or {}
    known = {region: expected[region] for region in REGIONS if expected.get(region) is not None}
    fitted = (content.get("quality") or {}).get("fitted", content.get("quality_fitted", True))
    return {"expected_dice": known, "look_here": list(content.get("look_here") or ()), "quality_fitted": fitted}


def tag_of(tag: str | None) -> str:
    """Return the tag that a client gave; ``final`` if it gave none.

    Raises:
        Refused: for an unknown tag.
    """
    tag = str(getattr(tag, "value", tag) or FINAL)
    if tag not in TAGS:
        raise Refused(f"The tag of a label is {' or '.join(TAGS)}; found {tag[:64]!r}.")
    return tag


def safe_id(case_id: str) -> str:
    """Return the id, if it is safe as a file name.

    Raises:
        NotFound: if it is not; no case has such an id.
    """
    if not re.fullmatch(r"[\w@-][\w.@-]{0,249}", case_id):
        raise NotFound("No case has this id: ids have letters, digits and . _ - @ only.")
    return case_id


def pack(image: nib.Nifti1Image) -> bytes:
    """Return the bytes of a ``.nii.gz`` file of a label; equal labels give equal bytes."""
    image = nib.Nifti1Image(np.asarray(image.dataobj).astype(np.uint8), image.affine)
    image.header.set_xyzt_units("mm")
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=5, mtime=0) as file:
        file.write(image.to_bytes())
    return packed.getvalue()


def signature(path: Path) -> tuple[int, ...] | None:
    """Return values that differ once a file was changed or replaced; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Checksums:
    """SHA-256 of files in hex, "" for a missing file; cached until a file changes."""

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
