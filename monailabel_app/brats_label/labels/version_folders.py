"""The versions of each case's labels: numbered files, each with a record that makes it count."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..durable import durable_write, sync, write_json
from ..errors import NotFound
from .version import ENDING, Version

DRAFTS = ".tmp-*"  # as ``durable_write`` calls them
_NUMBER = re.compile(r"(\d{4,})[._]")
_RECORD = re.compile(r"(\d{4,})\.json")
# Two changes within one tick of the clock look like one.
_FRESH_NS = 1_000_000_000


class VersionFolders:
    """``root/CASE/0001.nii.gz`` with ``0001.json``: the file first, the record last, so that it stands for both.

    What was written is never changed. Whoever adds sees to it that nobody else does at the same time.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[tuple[str, int], Version] = {}
        self._numbers: dict[str, tuple[int, list[int]]] = {}
        root.mkdir(parents=True, exist_ok=True)

    def cases(self) -> list[str]:
        """Cases that have a folder."""
        return sorted(folder.name for folder in self.root.iterdir() if folder.is_dir())

    def numbers(self, case_id: str) -> list[int]:
        """Numbers of the versions that count, ascending."""
        folder = self.root / safe(case_id)
        try:
            changed = folder.stat().st_mtime_ns
        except OSError:
            return []
        known = self._numbers.get(case_id)
        if known is None or known[0] != changed:
            numbers = sorted(int(m[1]) for path in folder.iterdir() if (m := _RECORD.fullmatch(path.name)))
            if time.time_ns() - changed < _FRESH_NS:
                return numbers
            known = self._numbers[case_id] = (changed, numbers)
        return known[1]

    def version(self, case_id: str, number: int) -> Version:
        """One that counts."""
        key = (case_id, number)
        if key not in self._known:
            path = self.root / case_id / f"{number:04d}{ENDING}"
            record = json.loads(path.with_name(f"{number:04d}.json").read_text(encoding="utf-8"))
            self._known[key] = Version(case_id, number, path, record)
        return self._known[key]

    def history(self, case_id: str) -> list[Version]:
        """All versions of a case, oldest first."""
        return [self.version(case_id, number) for number in self.numbers(case_id)]

    def sums(self, case_id: str) -> set[str]:
        """Checksums of the labels of a case."""
        return {version.record["sha256"] for version in self.history(case_id) if not version.removed}

    def add(self, case_id: str, record: Mapping[str, Any], data: bytes | None, drawn: bytes | None) -> Version:
        """Write the next version.

        Args:
            case_id: of a case, safe as a file name.
            record: plain JSON with ``tag``; ``when``, ``sha256`` and ``as_drawn`` are added.
            data: the file; None for the note of a removal.
            drawn: the file as it was submitted, if that differs.
        """
        folder = self.root / safe(case_id)
        if not folder.is_dir():
            folder.mkdir()
            sync(folder.parent)
        taken = (int(m[1]) for path in folder.iterdir() if (m := _NUMBER.match(path.name)))
        number = max(taken, default=0) + 1
        record = {"who": "unknown", **record, "when": datetime.now(timezone.utc).isoformat(timespec="milliseconds")}
        if data is not None:
            record["sha256"] = hashlib.sha256(data).hexdigest()
            write(folder / f"{number:04d}{ENDING}", data)
        if drawn is not None:
            record["as_drawn"] = f"{number:04d}_as_drawn{ENDING}"
            write(folder / record["as_drawn"], drawn)
        write_json(folder / f"{number:04d}.json", record)
        self._numbers.pop(case_id, None)
        return self.version(case_id, number)

    def clean(self) -> None:
        """Delete what killed processes left: drafts, and files whose record was never written."""
        for folder in (self.root / case_id for case_id in self.cases()):
            for path in folder.glob(DRAFTS):
                path.unlink()
            for path in folder.glob(f"*{ENDING}"):
                number = _NUMBER.match(path.name)
                if number and not (folder / f"{number[1]}.json").exists():
                    path.unlink()


def safe(case_id: str) -> str:
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


def write(path: Path, data: bytes) -> None:
    """Write a file, whole and on the disk or not at all."""
    with durable_write(path) as draft:
        draft.write_bytes(data)
