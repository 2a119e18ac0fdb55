"""Search terms for DICOMweb servers, also for those that take them as they stand: Orthanc decodes no %2F."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from pydicom.datadict import tag_for_keyword

# What RFC 3986 allows in a query as it is, and no server takes for the end of a value, or for a space.
PLAIN = "/:@!$'()*,?~"

Terms = Iterable[tuple[str, str]]


def query(terms: Terms) -> str:
    """The terms as a query string; only what must be is percent-encoded."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe=PLAIN)}" for name, value in terms)


def loose(terms: Terms) -> str | None:
    """The same with DICOM's wildcards in place of what had to be encoded; None if nothing had to."""
    wide = [(name, _widened(value) if _tag(name) else value) for name, value in terms]
    return query(wide) if wide != list(terms) else None


def strictly(found: list[dict[str, Any]], terms: Terms) -> list[dict[str, Any]]:
    """Of what a loose search found, that which the terms themselves mean; capitals and small letters are alike."""
    patterns = {tag: _pattern(value) for name, value in terms if (tag := _tag(name)) and _widened(value) != value}
    return [one for one in found if all(_says(one.get(tag), pattern) for tag, pattern in patterns.items())]


def read(body: bytes) -> list[dict[str, Any]] | None:
    """A list of DICOM JSON; None if it is none."""
    try:
        found = json.loads(body) if body.strip() else []
    except ValueError:
        return None
    return found if isinstance(found, list) and all(isinstance(one, dict) for one in found) else None


def _widened(value: str) -> str:
    """One character per ASCII character; any number for others, whose bytes a server may count."""
    return "".join(char if quote(char, safe=PLAIN) == char else "?" if char.isascii() else "*" for char in value)


def _pattern(value: str) -> re.Pattern:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(char) or re.escape(char) for char in value), re.IGNORECASE | re.DOTALL)


def _says(element: Any, pattern: re.Pattern) -> bool:
    values = element.get("Value", []) if isinstance(element, dict) else []
    texts = [text for value in values for text in (value.values() if isinstance(value, dict) else [value])]
    return any(pattern.fullmatch(str(text)) for text in texts)


def _tag(name: str) -> str:
    """``00100020`` for ``PatientID`` or itself; "" for what is no attribute, such as ``limit``."""
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        return name.upper()
    number = tag_for_keyword(name)
    return f"{number:08X}" if number else ""
