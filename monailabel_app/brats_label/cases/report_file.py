"""Find the report that lies with a case."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from brats_clip.cases import read_report
from brats_clip.errors import InputError

from ..errors import Refused
from .found_case import FoundCase

__all__ = ["find_report"]

_LONGEST = 50 * 2**20  # bytes of a JSON file with the reports of many cases
_KEYS = ("report", "text")


def find_report(case: FoundCase, case_id: str, root: Path) -> str:
    """Read the report of a case: ``CASE_report.txt``, a single other ``*_report.txt`` of a folder that is this case's
    alone, ``*report*.json`` beside the images, or one above them that lists reports by case id.

    Returns:
        The text, "" without a report.

    Raises:
        Refused: if there is one that cannot be read, or two that could be meant. Without the text.
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
        if path.stat().st_size > _LONGEST:
            raise Refused(f"{path.name}: more than {_LONGEST >> 20} MiB; a JSON file with reports is expected.")
        return json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        raise Refused(f"{path.name}: found no readable JSON; expected a report, or reports by case id.") from None


def _text(content: Any, ids: tuple[str, ...], whole: bool) -> str:
    """The report in a JSON file: by case id, or (``whole``) that of the file as such."""
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
        # A line break keeps a text that ends in ".txt" from being taken for a path.
        return read_report(report if isinstance(report, Path) else f"{report}\n", name)
    except InputError as problem:
        where = report.name if isinstance(report, Path) else name
        raise Refused(f"Report {where}: found {problem.found}; expected {problem.expected}.") from None
