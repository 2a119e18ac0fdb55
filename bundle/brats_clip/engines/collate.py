"""Batch cases whose reports differ in length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.data.utils import list_data_collate

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
