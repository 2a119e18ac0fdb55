"""Kinds of clicks, as data."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import InputError
from ..labels import ED, ET, NCR

# Targets of a click at its voxel for labels.REGIONS (WT, TC, ET): 1 inside, -1 outside, 0 unspecified.
KINDS: dict[str, tuple[int, int, int]] = {
    "WT": (1, 0, 0),
    "TC": (1, 1, 0),
    "ET": (1, 1, 1),
    "NCR": (1, 1, -1),
    "ED": (1, -1, -1),
    "background": (-1, -1, -1),
}
"""A click on a region puts the voxel inside the region but may leave its label open; "NCR", "ED" and "background" set
the exact label."""

_OF_LABEL = {0: "background", NCR: "NCR", ED: "ED", ET: "ET"}


def kind_of_label(value: int) -> str:
    """Return the kind of click that sets exactly the label ``value`` (0, 1 NCR, 2 ED, 4 ET)."""
    return _OF_LABEL[int(value)]


def click_targets(kinds: Sequence[str]) -> torch.Tensor:
    """Return the targets ``(K, 3)`` of kinds, given by name.

    Raises:
        InputError: for an unknown kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InputError("clicks", f"the kind {kind!r}", f"one of {', '.join(KINDS)}")
    return torch.tensor([KINDS[kind] for kind in kinds], dtype=torch.float32).reshape(-1, 3)
