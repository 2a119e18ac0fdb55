"""Collate batches of cases, compute cache keys for prepared cases, and mix real with synthetic cases."""

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

    MONAI's own padding collate does not handle the lists of crops that its random croppers return. Cached items are
    MetaTensors where freshly computed items are plain tensors. A batch must hold one type, so everything except
    images and labels becomes a plain tensor.

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
    """Hash a case by its entries and by size and time of its files, so that edited reports and labels are reread."""
    digest = hashlib.sha256()
    for key in sorted(case):
        value = str(case[key])
        digest.update(f"{key}={value};".encode())
        path = Path(split_channel(value)[0])
        try:
            stat = path.stat() if path.is_file() else None
        except OSError:  # the text of a report is too long for a file name
            continue
        if stat is not None:
            digest.update(f"{stat.st_size},{stat.st_mtime_ns};".encode())
    return digest.hexdigest().encode()


def hash_transforms(transforms: Sequence) -> bytes:
    """Hash transforms by their classes and settings, and by the weights of any CLIP encoder among them.

    Unlike a hash of their pickles, it is the same in every process, so a second run finds the cache of the first.
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
    """Sample real cases by weight, and synthetic cases uniformly for ``synthetic_share`` of the samples.

    On average, an epoch has as many real samples as there are real cases. Sampling is with replacement, from torch's
    global generator, so that resumed training draws the same samples as uninterrupted training.

    Args:
        cases: entries of a datalist; those with ``"synthetic": true`` are synthetic. A real case with ``"weight": 2.0``
            is drawn twice as often as a case without a weight.
        synthetic_share: from 0 (none) to below 1.

    Returns:
        The sampler; None, which means shuffling, if there are only synthetic, or only equally weighted real cases.

    Raises:
        InputError: if the share is out of range.
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
