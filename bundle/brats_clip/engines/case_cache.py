"""Keys for the cache of prepared cases."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path


def hash_case(case: Mapping) -> bytes:
    """Hash a case by its entries and by size and time of its files, so that an edited report or label is read anew."""
    digest = hashlib.sha256()
    for key in sorted(case):
        value = str(case[key])
        digest.update(f"{key}={value};".encode())
        path = Path(value.split("#")[0]) if len(value) < 1024 and "\n" not in value else None
        if path is not None and path.is_file():
            stat = path.stat()
            digest.update(f"{stat.st_size},{stat.st_mtime_ns};".encode())
    return digest.hexdigest().encode()
