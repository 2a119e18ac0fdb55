"""Labels on disk: every version, and the newest where MONAI Label's users look for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from filelock import FileLock

from ..cases.grid import Grid
from ..durable import sync
from ..errors import ClientError, NotFound, Refused, Unreachable
from .file_sums import FileSums, signature
from .validation import volumes_ml
from .version import ENDING, FINAL, FOUND, TAGS, Version
from .version_folders import DRAFTS, VersionFolders, pack, safe, write

_LOCK_WAIT_S = 60


class LabelStore:
    """Keeps each label that was ever acknowledged.

    ::

        root/final/CASE.nii.gz             the newest that people submitted
        root/original/CASE.nii.gz          the newest automatic answer
        root/versions/CASE/0001.nii.gz     every one of both, numbered in the order they came
        root/versions/CASE/0001.json       who, when, which model; the version counts once this is there
        root/versions/CASE/0001_as_drawn.nii.gz   what was submitted, where that differs: another grid, other numbers

    A save writes the version, then its record, then the copy in ``final``, each file whole or not at all. Whatever a
    killed process leaves between them is put right by the next store that opens the folder. Safe to use from several
    threads and processes.

    Args:
        root: the folder; made when it is missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        for tag in TAGS:
            (self.root / tag).mkdir(parents=True, exist_ok=True)
        self._versions = VersionFolders(self.root / "versions")
        self._threads = threading.RLock()
        self._processes = FileLock(self.root / ".lock", timeout=_LOCK_WAIT_S)
        self._sum = FileSums()
        self._problems: dict[Path, tuple[tuple[int, ...] | None, str]] = {}
        self._recover()

    def save(
        self,
        case_id: str,
        label: nib.Nifti1Image,
        tag: str,
        record: Mapping[str, Any],
        as_drawn: nib.Nifti1Image | None = None,
    ) -> Version:
        """Store a label; when this returns it is on the disk.

        Args:
            case_id: of a case, safe as a file name.
            label: 3D, values 0, 1, 2, 4, on the reference grid of the case.
            tag: ``final`` or ``original``.
            record: plain JSON: ``who``, ``client_id``, ``model``, ``model_version``, ``comment``, and so on.
            as_drawn: what was submitted, if that differs.

        Raises:
            Refused: for a tag that is neither.
            OSError: if it cannot be written; what was there before is still there.
        """
        drawn = None if as_drawn is None else pack(as_drawn)
        return self._add(case_id, tag, {**record, **_describe(label)}, pack(label), drawn)

    def remove(self, case_id: str, tag: str, record: Mapping[str, Any]) -> Version:
        """Take a label out of use and note who did; its versions stay.

        Raises:
            NotFound: if there is none.
        """
        with self._locked():
            if self.current(case_id, tag) is None:
                raise NotFound(f"Case {case_id} has no label with the tag {tag!r}.")
            return self._add(case_id, tag, {**record, "removed": True}, None, None)

    def restore(self, case_id: str, number: int, record: Mapping[str, Any] | None = None) -> Version:
        """Make an earlier version the current one of its tag, as a new version.

        Raises:
            NotFound: if the case has no label with this number.
        """
        with self._locked():
            labels = {version.number: version for version in self.history(case_id) if not version.removed}
            if number not in labels:
                there = ", ".join(map(str, labels)) or "none"
                raise NotFound(f"Case {case_id} has no label with the number {number}; it has {there}.")
            old = labels[number]
            same = {k: v for k, v in old.record.items() if k not in ("as_drawn", "who", "client_id")}
            drawn = old.as_drawn.read_bytes() if old.as_drawn else None
            record = {**same, **(record or {}), "restored_from": number, "drawn_by": old.record["who"]}
            return self._add(case_id, old.tag, record, old.path.read_bytes(), drawn)

    def current(self, case_id: str, tag: str = FINAL) -> Version | None:
        """The newest label of a case with this tag; None if there is none, or it was removed."""
        for number in reversed(self._versions.numbers(case_id)):
            version = self._versions.version(case_id, number)
            if version.tag == tag:
                return None if version.removed else version
        return None

    def current_path(self, case_id: str, tag: str = FINAL) -> Path | None:
        """Where the newest label lies: in ``root/TAG``, or among the versions if a file nobody checked is there."""
        version = self.current(case_id, tag)
        if version is None:
            return None
        place = self._place(case_id, tag)
        return place if self._sum(place) == version.record["sha256"] else version.path

    def history(self, case_id: str) -> list[Version]:
        """All versions of a case, oldest first, removals among them."""
        return self._versions.history(case_id)

    def labelled(self, tag: str = FINAL) -> list[str]:
        """Cases that have a label with this tag."""
        return [case_id for case_id in self._versions.cases() if self.current(case_id, tag) is not None]

    def found(self) -> list[tuple[str, str]]:
        """Case id and tag of files that people put into ``final`` or ``original`` and that were not looked at yet."""
        found = []
        for tag in TAGS:
            for path in sorted((self.root / tag).glob(f"[!.]*{ENDING}")):
                case_id = path.name.removesuffix(ENDING)
                try:
                    strange = self._sum(path) not in self._versions.sums(case_id)
                except NotFound as error:
                    self._problems[path] = (signature(path), error.sentence)
                    continue
                if strange and self._problems.get(path, (None,))[0] != signature(path):
                    found.append((case_id, tag))
        return found

    def take_found(self, check: Callable[[str, Path], tuple[nib.Nifti1Image, nib.Nifti1Image | None]]) -> list[Version]:
        """Take the files that people copied into ``final`` or ``original`` by hand.

        Args:
            check: validates a file for a case; returns the label on the reference grid, and as it was drawn if that
                differs. A ClientError says that the file cannot be used: it is left alone and listed in ``problems``.

        Returns:
            The new versions.
        """
        taken = []
        for case_id, tag in self.found():
            path = self._place(case_id, tag)
            before = signature(path)
            try:
                label, as_drawn = check(case_id, path)
            except Unreachable:  # next time, perhaps
                continue
            except ClientError as error:
                self._problems[path] = (before, error.sentence)
                continue
            with self._locked():
                if signature(path) != before:  # replaced while it was checked: next time
                    continue
                drawn = None if as_drawn is None else pack(as_drawn)
                taken.append(self._add(case_id, tag, {"who": FOUND, **_describe(label)}, pack(label), drawn))
        return taken

    def problems(self) -> list[str]:
        """A sentence for each file in ``final`` or ``original`` that is not used."""
        known = sorted(self._problems.items())
        return [f"{path.relative_to(self.root)}: {says}" for path, (seen, says) in known if signature(path) == seen]

    def _add(self, case_id: str, tag: str, record: Mapping, data: bytes | None, drawn: bytes | None) -> Version:
        place = self._place(case_id, tag)
        with self._locked():
            version = self._versions.add(case_id, {**record, "tag": tag}, data, drawn)
            self._set_aside(case_id, place)
            self._put(place, data)
            return version

    def _put(self, place: Path, data: bytes | None) -> None:
        if data is None:
            place.unlink(missing_ok=True)
            sync(place.parent)
        else:
            write(place, data)

    def _set_aside(self, case_id: str, place: Path) -> None:
        """Keep a file that somebody put in a label's place and that is no version: a save must not destroy it."""
        found = self._sum(place)
        if found and found not in self._versions.sums(case_id):
            kept = self._versions.root / case_id / f"found_{found[:12]}{ENDING}"
            if not kept.exists():
                write(kept, place.read_bytes())

    def _recover(self) -> None:
        with self._locked():
            for tag in TAGS:
                for path in (self.root / tag).glob(DRAFTS):
                    path.unlink()
            self._versions.clean()
            for case_id in self._versions.cases():
                for tag in TAGS:
                    self._put_right(case_id, tag)

    def _put_right(self, case_id: str, tag: str) -> None:
        """Where the newest label belongs, replace an older one or none; leave a file that people brought."""
        place, version = self._place(case_id, tag), self.current(case_id, tag)
        there = self._sum(place)
        if not there or there in self._versions.sums(case_id):
            if version is None and there:
                self._put(place, None)
            elif version is not None and there != version.record["sha256"]:
                self._put(place, version.path.read_bytes())

    def _place(self, case_id: str, tag: str) -> Path:
        if tag not in TAGS:
            raise Refused(f"The tag of a label is {' or '.join(TAGS)}; found {str(tag)[:64]!r}.")
        return self.root / tag / f"{safe(case_id)}{ENDING}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads, self._processes:
            yield


def _describe(label: nib.Nifti1Image) -> dict[str, Any]:
    array = np.asarray(label.dataobj).astype(np.uint8)
    return {"volumes_ml": volumes_ml(array, Grid.of(label)), "shape": list(array.shape)}
