"""Kinds of clicks, as data."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import InputError
from ..labels import ED, ET, NCR

# What a click says about its voxel for each of labels.REGIONS (WT, TC, ET): 1 in it, -1 not in it, 0 nothing.
KINDS: dict[str, tuple[int, int, int]] = {
    "WT": (1, 0, 0),
    "TC": (1, 1, 0),
    "ET": (1, 1, 1),
    "NCR": (1, 1, -1),
    "ED": (1, -1, -1),
    "background": (-1, -1, -1),
}
"""A click on a region puts the voxel inside it and leaves open what else it is; "NCR", "ED" and "background" say
exactly what it is."""

_OF_LABEL = {0: "background", NCR: "NCR", ED: "ED", ET: "ET"}


def kind_of_label(value: int) -> str:
    """The kind of click that says exactly ``value`` (0, 1 NCR, 2 ED, 4 ET)."""
    return _OF_LABEL[int(value)]


def click_targets(kinds: Sequence[str]) -> torch.Tensor:
    """Targets ``(K, 3)`` of kinds by name.

    Raises:
        InputError: for an unknown kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InputError("clicks", f"the kind {kind!r}", f"one of {', '.join(KINDS)}")
    return torch.tensor([KINDS[kind] for kind in kinds], dtype=torch.float32).reshape(-1, 3)
