"""Files of a studies folder: the walk through it, a cache of headers, and the report of a case."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_clip.cases import read_report
from brats_clip.errors import CaseError, InputError
from brats_clip.images import Header, read_header

from ..errors import Refused

if TYPE_CHECKING:
    from .folder_scan import FoundCase

# By folder: when it was changed; None if unknown, or too recent to rely on.
Stamps = dict[Path, tuple[int, int] | None]

_TICK_NS = 50_000_000  # two changes within one tick of the file system's clock get the same time
MAX_JSON_BYTES = 50 * 2**20  # of a JSON file that lists many cases
_KEYS = ("report", "text")


def walk(root: Path, skip: frozenset[Path], stamps: Stamps) -> Iterator[tuple[Path, list[str], OSError | None]]:
    """Follow links and yield every folder once, with its file names, or the error if it cannot be opened.

    Args:
        root: where to start.
        skip: folders to leave out, as well as hidden ones and those that macOS adds to archives.
        stamps: filled in, for ``has_changed``.
    """
    seen = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:  # a link that leads back up would never end
                continue
            seen.add((status.st_dev, status.st_ino))
            stamps[folder] = _stamp(status)
            if time.time_ns() - max(stamps[folder]) < _TICK_NS:
                stamps[folder] = None
            files, below = [], []
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith((".", "__MACOSX")):
                        continue
                    if entry.is_dir():
                        below.append(folder / entry.name)
                    elif entry.is_file():
                        files.append(entry.name)
        except OSError as problem:
            stamps.setdefault(folder, None)
            yield folder, [], problem
            continue
        waiting.extend(path for path in sorted(below, reverse=True) if path not in skip)
        yield folder, sorted(files), None


def has_changed(stamps: Mapping[Path, tuple[int, int] | None]) -> bool:
    """Return whether a file or folder was added, removed or renamed since. No folder is opened."""
    for folder, before in stamps.items():
        try:
            if before is None or _stamp(folder.stat()) != before:
                return True
        except OSError:
            return True
    return False


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_ctime_ns  # the second changes with permissions, too


class HeaderCache:
    """Cache headers, and errors from reading them, until the file changes. Safe to use from several threads."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], Header | CaseError]] = {}
        self._lock = threading.Lock()

    def get(self, path: Path) -> Header:
        """Return the header of ``path``. Raises as ``read_header`` does."""
        try:
            status = path.stat()
        except OSError as reason:
            raise CaseError(path, f"no readable file ({reason.strerror})", "a NIfTI file (.nii or .nii.gz)") from reason
        stamp = (status.st_mtime_ns, status.st_size)
        with self._lock:
            known = self._known.get(path)
        if known is None or known[0] != stamp:
            try:
                known = (stamp, read_header(path))
            except CaseError as problem:
                # A new error: the traceback of the one raised would stay in memory, and grow.
                known = (stamp, CaseError(problem.where, problem.found, problem.expected))
            with self._lock:
                self._known[path] = known
        if isinstance(known[1], CaseError):
            raise CaseError(known[1].where, known[1].found, known[1].expected)
        return known[1]


def find_report(case: FoundCase, case_id: str, root: Path) -> str:
    """Read the report of a case: ``CASE_report.txt``, the only other ``*_report.txt`` if the folder has no other case,
    ``*report*.json`` in the folder of the images, or one in a folder above it that lists reports by case ID.

    Returns:
        The text, "" without a report.

    Raises:
        Refused: if the report cannot be read, or two files match. The message does not contain the text.
    """
    names = _files(case.folder)
    ids = tuple(dict.fromkeys((case_id, case.name)))
    own = [n for n in names if n.lower() in {f"{i}{e}".lower() for i in ids for e in ("_report.txt", "-report.txt")}]
    if case.report is not None and case.report.name in names:
        own = [case.report.name]
    if not own and case.alone:
        own = [n for n in names if n.lower().endswith(("_report.txt", "-report.txt")) or n.lower() == "report.txt"]
    if len(own) > 1:
        raise Refused(f"Two reports lie with case {case_id}: {own[0]} and {own[1]}; one is expected.")
    if own:
        return _readable(case.folder / own[0])
    for name in _listings(names):
        content = _load(case.folder / name)
        if text := _text(content, ids, name.lower().startswith(tuple(i.lower() for i in ids)) or case.alone):
            return _readable(text, name)
    for folder in case.folder.parents if case.folder != root else ():
        for name in _listings(_files(folder)):
            if text := _text(_load(folder / name), ids, False):
                return _readable(text, name)
        if folder == root:
            break
    return ""


def _files(folder: Path) -> list[str]:
    try:
        return sorted(p.name for p in folder.iterdir() if not p.name.startswith(".") and p.is_file())
    except OSError:
        return []


def _listings(names: Iterable[str]) -> list[str]:
    return [name for name in names if "report" in name.lower() and name.lower().endswith(".json")]


def _load(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise Refused(f"{path.name}: more than {MAX_JSON_BYTES >> 20} MiB; a JSON file with reports is expected.")
        return json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        raise Refused(f"{path.name}: found no readable JSON; expected a report, or reports by case id.") from None


def _text(content: Any, ids: tuple[str, ...], whole: bool) -> str:
    """Return the report in a JSON file: the entry of the case ID, or with ``whole`` that of the file itself."""
    if not isinstance(content, dict):
        return ""
    for key in ids:
        entry = content.get(key)
        if isinstance(entry, dict):
            entry = next((entry[k] for k in _KEYS if k in entry), "")
        if isinstance(entry, str) and entry.strip():
            return entry
    text = next((content[k] for k in _KEYS if k in content), "") if whole else ""
    return text if isinstance(text, str) else ""


def _readable(report: Path | str, name: str = "") -> str:
    try:
        return read_report(path=report) if isinstance(report, Path) else read_report(report, where=name)
    except InputError as problem:
        where = report.name if isinstance(report, Path) else name
        raise Refused(f"Report {where}: found {problem.found}; expected {problem.expected}.") from None
