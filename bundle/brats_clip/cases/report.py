"""Read the report of a case."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path

from ..errors import ReportError

_EXPECTED = "a report as text (UTF-8, UTF-16 or Windows-1252)"


def is_report_path(value: str | PathLike) -> bool:
    """Tell a path to a .txt file from the text of a report."""
    return not isinstance(value, str) or (value.lower().endswith(".txt") and "\n" not in value)


def as_text(report: str) -> str:
    """A report that others wrote, so that ``read_report`` never takes it for a path, whatever it ends in."""
    return f"{report}\n"


def read_report(value: str | PathLike | None, where: str = "report") -> str:
    """Return the text of a report.

    Args:
        value: path to a .txt file, or the text itself; None or "" mean that there is no report.
        where: what to name in an error about a text that is no file.

    Returns:
        The text without white space around it; "" for no report.

    Raises:
        ReportError: if the file is missing, empty, or holds anything but text.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    if not isinstance(value, str | PathLike):
        raise ReportError(where, f"a {type(value).__name__}", _EXPECTED)
    if not is_report_path(value):
        return _check_text(value, where)
    try:
        text = _decode(Path(value).read_bytes())
    except OSError as reason:
        found = "no file" if isinstance(reason, FileNotFoundError) else f"an unreadable file ({reason.strerror})"
        raise ReportError(value, found, _EXPECTED) from reason
    except UnicodeDecodeError as reason:
        raise ReportError(value, f"the byte 0x{reason.object[reason.start]:02x}", _EXPECTED) from reason
    if not text.strip():
        raise ReportError(value, "an empty file", f"{_EXPECTED}; remove the file if there is no report")
    return _check_text(text, value)


def _decode(content: bytes) -> str:
    """Text in UTF-8, in UTF-16 with a byte order mark, or in Windows-1252, which many report systems export."""
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
        ReportError: if one cannot be read.
    """
    return [text for case in cases if (text := read_report(case.get("report"), f"report of case {case.get('case')}"))]


def _check_text(text: str, where: str | PathLike) -> str:
    control = next((c for c in text if unicodedata.category(c) == "Cc" and c not in "\t\n\r\f\v"), None)
    if control is not None:
        raise ReportError(where, f"binary data (the control character 0x{ord(control):02x})", _EXPECTED)
    return text.strip()
