"""Ids for cases that have none yet: safe as file names, each once, the same whatever order folders are listed in."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import count

__all__ = ["distinct_ids", "safe_name"]

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 100


def safe_name(text: str) -> str:
    """``text`` as a file name: letters, digits, ``. _ -``, not hidden, no longer than 100 characters."""
    name = _UNSAFE.sub("_", text).strip(".-") or "case"
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9]}_{_digest(text)}"


def distinct_ids(places: Sequence[tuple[str, tuple[str, ...]]], taken: Collection[str] = ()) -> list[str]:
    """Give each case an id.

    Args:
        places: name of the case and the folders down to it, by case; equal ones get the same id, up to a number.
        taken: ids of other cases.

    Returns:
        The name where it is the only one, else ``folder__name`` with as many folders as it takes. Of these cases all of
        one name get the longer id.
    """
    ids = [safe_name(name) for name, _ in places]
    most = max((len(folders) for _, folders in places), default=0)
    for depth in range(1, most + 1):
        for index in _repeated(ids, taken):
            name, folders = places[index]
            folders = folders[:-1] if folders and safe_name(folders[-1]) == safe_name(name) else folders
            ids[index] = "__".join(map(safe_name, (*folders[-depth:], name)))
    for index in _repeated(ids, taken):  # one folder holds both, or names differ in unsafe characters only
        ids[index] = f"{ids[index]}__{_digest(repr(places[index]))}"
    ids = [name if len(name) <= 2 * _LONGEST else f"{name[:_LONGEST]}_{_digest(name)}" for name in ids]
    for index in _repeated(ids, taken):
        used = {name.lower() for name in (*ids, *taken)}
        ids[index] = next(name for n in count(index) if (name := f"{ids[index]}_{n}").lower() not in used)
    return ids


def _repeated(ids: list[str], taken: Collection[str]) -> list[int]:
    # Upper and lower case count as equal: some disks do not tell them apart.
    counts = Counter(name.lower() for name in (*ids, *taken))
    return [index for index, name in enumerate(ids) if counts[name.lower()] > 1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
