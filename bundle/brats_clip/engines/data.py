"""Batches of cases, keys for the cache of prepared ones, and the share of synthetic ones in an epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.data.utils import list_data_collate
from torch.utils.data import WeightedRandomSampler

from ..cases import split_channel
from ..errors import InputError
from ..semantics import ClipEncoder

WITH_GEOMETRY = ("image", "label")


def collate_cases(batch: Sequence[Mapping | Sequence[Mapping]]) -> dict:
    """Like MONAI's ``list_data_collate``, after padding ``report_tokens`` and ``report_mask`` to the longest report.

    MONAI's own padding collate does not look into the lists of crops that its random croppers return. And what comes
    from a cache is a MetaTensor where the same thing computed is a tensor; a batch must hold one kind, so all but
    images and labels become plain tensors.

    Args:
        batch: one dictionary, or one list of crops, per case.
    """
    items = [dict(item) for entry in batch for item in (entry if isinstance(entry, Sequence) else [entry])]
    longest = max(len(item["report_mask"]) for item in items)
    for item in items:
        plain = {k: v.as_tensor() for k, v in item.items() if isinstance(v, MetaTensor) and k not in WITH_GEOMETRY}
        item.update(plain)
        missing = longest - len(item["report_mask"])
        item["report_tokens"] = F.pad(torch.as_tensor(item["report_tokens"]), (0, 0, 0, missing))
        item["report_mask"] = F.pad(torch.as_tensor(item["report_mask"]), (0, missing))
    return list_data_collate(items)


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


def mixed_sampler(cases: Sequence[Mapping], synthetic_share: float) -> WeightedRandomSampler | None:
    """Draw real cases by their weight, and synthetic ones evenly for ``synthetic_share`` of the samples.

    An epoch has as many real samples, on average, as there are real cases. Draws are with replacement, from torch's
    global generator, so that a resumed training draws what the unbroken one would have.

    Args:
        cases: entries of a datalist; those with ``"synthetic": true`` are synthetic. A real one with ``"weight": 2.0``
            is drawn twice as often as one without a weight.
        synthetic_share: from 0 (none) to below 1.

    Returns:
        None, which stands for shuffling, where all cases are of one kind and one weight.

    Raises:
        InputError: for a share that is out of range.
    """
    if not 0 <= synthetic_share < 1:
        raise InputError("synthetic_share", str(synthetic_share), "a share from 0 to below 1")
    synthetic = [bool(case.get("synthetic")) for case in cases]
    of_real = [float(case.get("weight", 1.0)) for case in cases if not case.get("synthetic")]
    made, real = sum(synthetic), len(of_real)
    if not real or (not made and len(set(of_real)) == 1):
        return None
    share = synthetic_share if made else 0.0
    weights = [
        share / made if one else (1 - share) * float(case.get("weight", 1.0)) / sum(of_real)
        for one, case in zip(synthetic, cases, strict=True)
    ]
    return WeightedRandomSampler(weights, round(real / (1 - share)))
