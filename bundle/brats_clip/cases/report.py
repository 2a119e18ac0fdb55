"""Read the report of a case."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path

from ..errors import ReportError

_EXPECTED = "a report as text (UTF-8, UTF-16 or Windows-1252)"
_PATH = re.compile(r"\S*[/\\].*\.txt|\S+\.txt", re.IGNORECASE)


def looks_like_path(report: str | None) -> bool:
    """Whether a text looks like the path of a .txt file. The file system is not checked."""
    return isinstance(report, str) and _PATH.fullmatch(report.strip()) is not None


def read_report(report: str | None = None, path: str | PathLike | None = None, where: str = "report") -> str:
    """Return the text of a report.

    Args:
        report: the text itself; "" for no report; None reads ``path``.
        path: path of a text file; None or "" for no report.
        where: name of ``report`` in errors.

    Returns:
        The text without white space around it; "" for no report.

    Raises:
        ReportError: if the file is missing or empty, or the report is not text.
    """
    if report is not None:
        if not isinstance(report, str):
            raise ReportError(where, f"a {type(report).__name__}", _EXPECTED)
        return _check_text(report, where)
    if not path:
        return ""
    try:
        text = _decode(Path(path).read_bytes())
    except OSError as reason:
        found = "no file" if isinstance(reason, FileNotFoundError) else f"an unreadable file ({reason.strerror})"
        raise ReportError(path, found, _EXPECTED) from reason
    except UnicodeDecodeError as reason:
        raise ReportError(path, f"the byte 0x{reason.object[reason.start]:02x}", _EXPECTED) from reason
    if not text.strip():
        raise ReportError(path, "an empty file", f"{_EXPECTED}; remove the file if there is no report")
    return _check_text(text, path)


def case_report(case: Mapping) -> str:
    """Return the report of a case, from its ``report`` or, if missing, its ``report_path``; see ``read_report``."""
    return read_report(case.get("report"), case.get("report_path"), f"report of case {case.get('case')}")


def _decode(content: bytes) -> str:
    """Decode UTF-8, UTF-16 with a byte order mark, or Windows-1252, which many report systems export."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def read_reports(cases: Iterable[Mapping]) -> list[str]:
    """Read the reports of all cases that have one.

    Args:
        cases: as from ``find_cases`` or ``load_datalist``.

    Raises:
        ReportError: if a report cannot be read.
    """
    return [text for case in cases if (text := case_report(case))]


def _check_text(text: str, where: str | PathLike) -> str:
    control = next((c for c in text if unicodedata.category(c) == "Cc" and c not in "\t\n\r\f\v"), None)
    if control is not None:
        raise ReportError(where, f"binary data (the control character 0x{ord(control):02x})", _EXPECTED)
    return text.strip()
