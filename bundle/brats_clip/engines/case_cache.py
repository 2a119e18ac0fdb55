"""Keys for the cache of prepared cases."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

import numpy as np
import torch

from ..cases import split_channel
from ..semantics import ClipEncoder


def hash_case(case: Mapping) -> bytes:
    """Hash a case by its entries and by size and time of its files, so that an edited report or label is read again."""
    digest = hashlib.sha256()
    for key in sorted(case):
        value = str(case[key])
        digest.update(f"{key}={value};".encode())
        path = Path(split_channel(value)[0])
        try:
            stat = path.stat() if path.is_file() else None
        except OSError:  # a report as text is too long for a name
            continue
        if stat is not None:
            digest.update(f"{stat.st_size},{stat.st_mtime_ns};".encode())
    return digest.hexdigest().encode()


def hash_transforms(transforms: Sequence) -> bytes:
    """Hash what transforms will do: classes and settings, and the weights of a CLIP among them.

    Unlike a hash of their pickles it is the same in every process, so a second run finds what the first one cached.
    """
    return hashlib.sha256(repr([_describe(t) for t in transforms]).encode()).hexdigest().encode()


def _describe(value: object) -> object:
    if isinstance(value, ClipEncoder):
        return value.fingerprint
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return sorted((str(k), _describe(v)) for k, v in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return [_describe(v) for v in value]
    if isinstance(value, torch.nn.Module):
        settings = {k: v for k, v in vars(value).items() if not k.startswith("_")}
        return [type(value).__name__, _describe(settings), _describe(dict(value.named_children()))]
    if type(value).__module__.startswith(("monai.", "brats_clip.")) and hasattr(value, "__dict__"):
        # Private attributes hold state (random generators, caches), not settings.
        return [type(value).__name__, _describe({k: v for k, v in vars(value).items() if not k.startswith("_")})]
    if callable(value):
        return getattr(value, "__qualname__", type(value).__name__)
    if isinstance(value, str | int | float | bool | type(None) | torch.dtype):
        return value
    return type(value).__name__
