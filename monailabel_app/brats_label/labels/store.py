"""Labels on disk: every revision, and a copy of the newest where users of MONAI Label expect it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from sqlalchemy import Connection, func, insert, select, true

from brats_clip.geometry import Grid

from ..durable import durable_write, sync
from ..errors import ClientError, NotFound, Unreachable
from ..store import Store, revisions
from . import ENDING, FINAL, FOUND, TAGS, Checksums, Revision, pack, safe_id, signature, tag_of
from .validation import volumes_ml

_DRAFTS = ".tmp-*"  # temporary files of ``durable_write``
_UNSUPPORTED = (".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")  # not imported, but reported to users
_NUMBER = re.compile(r"(\d{4,})[._]")


class LabelStore:
    """Stores labels, with all revisions.

    ::

        root/final/CASE.nii.gz             the newest label that users submitted
        root/original/CASE.nii.gz          the newest automatic answer
        root/versions/CASE/0001.nii.gz     all revisions of both, numbered in order
        root/versions/CASE/0001_as_drawn.nii.gz   the submitted label, if it was resampled to the reference grid

    The table ``revisions`` records who saved a label, when, and with which model. A save writes the revision's file,
    then its row, then the copy in ``final``, each atomically. If a process is killed between these steps, the next one
    that opens the folder repairs it. Safe to use from several threads and processes.
    """

    def __init__(self, root: Path, store: Store) -> None:
        self.root, self._store = Path(root), store
        for folder in (*TAGS, "versions"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        self._sum = Checksums()
        self._problems: dict[Path, tuple[tuple[int, ...] | None, str]] = {}
        with store.write() as connection:
            self._recover(connection)

    def save(
        self,
        case_id: str,
        label: nib.Nifti1Image,
        tag: str,
        record: Mapping[str, Any],
        as_drawn: nib.Nifti1Image | None = None,
    ) -> Revision:
        """Store a label durably: it is on disk when this returns.

        Args:
            case_id: of a case, safe as a file name.
            label: 3D, values 0, 1, 2, 4, on the reference grid of the case.
            tag: ``final`` or ``original``.
            record: plain JSON: ``who``, ``client_id``, ``model``, ``model_version``, ``comment``, and so on.
            as_drawn: the submitted label, if it differs.

        Raises:
            Refused: for another tag.
            OSError: if the label cannot be written; the previous label stays.
        """
        files = pack(label), None if as_drawn is None else pack(as_drawn)
        with self._store.write() as connection:
            revision = self._add(connection, case_id, tag_of(tag), {**record, **_describe(label)}, *files)
        return self._in_place(revision)

    def remove(self, case_id: str, tag: str, record: Mapping[str, Any]) -> Revision:
        """Remove a label, which adds a revision with ``record``; earlier revisions are kept.

        Raises:
            NotFound: if there is no label with this tag.
        """
        with self._store.write() as connection:
            self.in_use(case_id, tag, connection)
            revision = self._add(connection, case_id, tag_of(tag), {**record, "removed": True}, None, None)
        return self._in_place(revision)

    def restore(self, case_id: str, number: int, record: Mapping[str, Any] | None = None) -> Revision:
        """Make an earlier revision the current one of its tag, as a new revision.

        Raises:
            NotFound: if the case has no label with this number.
        """
        labels = {revision.number: revision for revision in self.history(case_id) if not revision.removed}
        if number not in labels:
            there = ", ".join(map(str, labels)) or "none"
            raise NotFound(f"Case {case_id} has no label with the number {number}; it has {there}.")
        old = labels[number]
        same = {k: v for k, v in old.record.items() if k not in ("as_drawn", "who", "client_id")}
        record = {**same, **(record or {}), "restored_from": number, "drawn_by": old.record["who"]}
        files = old.path.read_bytes(), old.as_drawn.read_bytes() if old.as_drawn else None
        with self._store.write() as connection:
            revision = self._add(connection, case_id, old.tag, record, *files)
        return self._in_place(revision)

    def current(self, case_id: str, tag: str = FINAL, connection: Connection | None = None) -> Revision | None:
        """Return the newest label of a case with this tag; None if there is none, or it was removed."""
        where = (revisions.c.case_id == safe_id(case_id)) & (revisions.c.tag == tag)
        found = self._read(where, connection, newest=True)
        return found[0] if found and not found[0].removed else None

    def in_use(self, case_id: str, tag: str | None, connection: Connection | None = None) -> Revision:
        """Return the newest label of a case with this tag.

        Raises:
            NotFound: if there is none, or it was removed.
            Refused: for an unknown tag.
        """
        revision = self.current(case_id, tag_of(tag), connection)
        if revision is None:
            raise NotFound(f"Case {case_id} has no label with the tag {tag_of(tag)!r}.")
        return revision

    def current_path(self, case_id: str, tag: str = FINAL) -> Path | None:
        """Return the path of the newest label: in ``root/TAG``, or in ``root/versions`` if another file is there."""
        revision = self.current(case_id, tag)
        if revision is None:
            return None
        place = self._place(case_id, tag)
        return place if self._sum(place) == revision.record["sha256"] else revision.path

    def history(self, case_id: str) -> list[Revision]:
        """Return all revisions of a case, oldest first, including removals."""
        return self._read(revisions.c.case_id == safe_id(case_id))

    def by_case(self) -> dict[str, list[Revision]]:
        """Return all revisions of all cases, as ``history``."""
        found: dict[str, list[Revision]] = {}
        for revision in self._read(true()):
            found.setdefault(revision.case_id, []).append(revision)
        return found

    def labelled(self, tag: str = FINAL) -> list[str]:
        """Return the cases that have a label with this tag."""
        with self._store.read() as connection:
            return _labelled(connection, tag)

    def unimported_files(self) -> list[tuple[str, str]]:
        """Return case id and tag of files that users copied into ``final`` or ``original`` and that are unchecked."""
        found = []
        for tag in TAGS:
            for path in sorted((self.root / tag).glob(f"[!.]*{ENDING}")):
                case_id = path.name.removesuffix(ENDING)
                try:
                    with self._store.read() as connection:
                        unknown = self._sum(path) not in _sums_of(connection, safe_id(case_id))
                except NotFound as error:
                    self._problems[path] = (signature(path), error.sentence)
                    continue
                if unknown and self._problems.get(path, (None,))[0] != signature(path):
                    found.append((case_id, tag))
        return found

    def import_found(self, check: Callable[[str, Path], nib.Nifti1Image]) -> list[Revision]:
        """Import the files that users copied into ``final`` or ``original``.

        Args:
            check: validates a file for a case; returns the label on the reference grid. If it raises a ClientError,
                the file is left unchanged and listed in ``problems``.

        Returns:
            The new revisions.
        """
        taken = []
        for case_id, tag in self.unimported_files():
            path = self._place(case_id, tag)
            before = signature(path)
            try:
                label = check(case_id, path)
            except Unreachable:  # try again next time
                continue
            except ClientError as error:
                self._problems[path] = (before, error.sentence)
                continue
            record = {"who": FOUND, **_describe(label)}
            with self._store.write() as connection:
                if signature(path) != before:  # replaced during the check: try again next time
                    continue
                revision = self._add(connection, case_id, tag, record, pack(label), None)
            taken.append(self._in_place(revision))
        return taken

    def problems(self) -> list[str]:
        """Return a sentence for each file in ``final`` or ``original`` that is not used."""
        known = sorted(self._problems.items())
        says = [f"{path.relative_to(self.root)}: {says}" for path, (seen, says) in known if signature(path) == seen]
        return says + unsupported_files(self.root)

    def _read(self, where: Any, connection: Connection | None = None, newest: bool = False) -> list[Revision]:
        if connection is None:
            with self._store.read() as connection:
                return self._read(where, connection, newest)
        columns = revisions.c["case_id", "number", "record"]
        order = revisions.c.number.desc() if newest else revisions.c.number
        rows = connection.execute(select(columns).where(where).order_by(order).limit(1 if newest else None))
        return [Revision(case_id, n, self._file(case_id, n), record) for case_id, n, record in rows]

    def _add(
        self, connection: Connection, case_id: str, tag: str, record: Mapping, data: bytes | None, drawn: bytes | None
    ) -> Revision:
        """Write the files of the next revision, then its row."""
        folder = self.root / "versions" / safe_id(case_id)
        if not folder.is_dir():
            folder.mkdir()
            sync(folder.parent)
        number = 1 + _highest(connection, case_id)
        when = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        record = {"who": "unknown", "client_id": None, **record, "tag": tag, "when": when}
        if data is not None:
            record["sha256"] = hashlib.sha256(data).hexdigest()
            _write(self._file(case_id, number), data)
        if drawn is not None:
            record["as_drawn"] = f"{number:04d}_as_drawn{ENDING}"
            _write(folder / record["as_drawn"], drawn)
        row = {"case_id": case_id, "number": number, "tag": tag, "sha256": record.get("sha256"), "record": record}
        connection.execute(insert(revisions), row)
        return Revision(case_id, number, self._file(case_id, number), record)

    def _in_place(self, revision: Revision) -> Revision:
        """Copy the newest label, which may be later than ``revision``, to ``root/TAG``."""
        with self._store.write() as connection:  # one at a time, so that an older label never overwrites a newer one
            place = self._place(revision.case_id, revision.tag)
            there = self._sum(place)
            if there and there not in _sums_of(connection, revision.case_id):
                self._set_aside(place, revision.case_id)
            self._repair(connection, revision.case_id, revision.tag)
        return revision

    def _repair(self, connection: Connection, case_id: str, tag: str) -> None:
        place, newest = self._place(case_id, tag), self.current(case_id, tag, connection)
        there = self._sum(place)
        if newest is not None and there != newest.record["sha256"]:
            _write(place, newest.path.read_bytes())
        elif newest is None and there:
            place.unlink(missing_ok=True)
            sync(place.parent)

    def _set_aside(self, path: Path, case_id: str) -> None:
        """Keep a copy of a file that is not a revision, so that a save does not destroy it."""
        kept = self.root / "versions" / case_id / f"found_{self._sum(path)[:12]}{ENDING}"
        if not kept.exists():
            _write(kept, path.read_bytes())

    def _recover(self, connection: Connection) -> None:
        """Delete temporary files and files of incomplete saves, set aside others without a row, and restore copies."""
        for path in self.root.glob(f"*/{_DRAFTS}"):
            path.unlink()
        for folder in (folder for folder in (self.root / "versions").iterdir() if folder.is_dir()):
            for path in folder.glob(_DRAFTS):
                path.unlink()
            history = self._read(revisions.c.case_id == folder.name, connection)
            following = 1 + (history[-1].number if history else 0)
            named = {path for revision in history for path in (revision.path, revision.as_drawn)}
            in_place = {self._sum(self.root / tag / f"{folder.name}{ENDING}") for tag in TAGS}
            unnamed = [p for p in folder.glob(f"*{ENDING}") if _NUMBER.match(p.name) and p not in named]
            # A save that was killed leaves only the next number, not yet copied. Other files have lost their rows.
            torn = {int(_NUMBER.match(path.name)[1]) for path in unnamed} == {following}
            for path in unnamed:
                if not torn or self._sum(path) in in_place:
                    self._set_aside(path, folder.name)
                path.unlink()
            for tag in TAGS:
                there = self._sum(self._place(folder.name, tag))
                if not there or there in _sums_of(connection, folder.name):  # else a user copied it there
                    self._repair(connection, folder.name, tag)

    def _file(self, case_id: str, number: int) -> Path:
        return self.root / "versions" / case_id / f"{number:04d}{ENDING}"

    def _place(self, case_id: str, tag: str) -> Path:
        return self.root / tag_of(tag) / f"{safe_id(case_id)}{ENDING}"


def unsupported_files(root: Path) -> list[str]:
    """Return a sentence for each label below ``root`` in a format that is only accepted if submitted."""
    return [
        f"{path.relative_to(root)}: not used; expected CASE{ENDING} here. Submit the file for its case, or convert "
        f"and rename it."
        for tag in TAGS
        for path in sorted((root / tag).glob("[!.]*"))
        if path.name.lower().endswith(_UNSUPPORTED)
    ]


def _highest(connection: Connection, case_id: str) -> int:
    return connection.scalar(select(func.max(revisions.c.number)).where(revisions.c.case_id == case_id)) or 0


def _sums_of(connection: Connection, case_id: str) -> set[str | None]:
    return set(connection.scalars(select(revisions.c.sha256).where(revisions.c.case_id == case_id)))


def _labelled(connection: Connection, tag: str) -> list[str]:
    # SQLite takes the other columns from the row that has the maximum: https://www.sqlite.org/lang_select.html#bareagg
    columns = (revisions.c.case_id, revisions.c.sha256, func.max(revisions.c.number))
    rows = connection.execute(select(*columns).where(revisions.c.tag == tag).group_by(revisions.c.case_id))
    return sorted(case_id for case_id, sha256, _ in rows if sha256 is not None)


def _describe(label: nib.Nifti1Image) -> dict[str, Any]:
    array = np.asarray(label.dataobj).astype(np.uint8)
    return {"volumes_ml": volumes_ml(array, Grid(label.shape, label.affine)), "shape": list(array.shape)}


def _write(path: Path, data: bytes) -> None:
    with durable_write(path) as draft:
        draft.write_bytes(data)
