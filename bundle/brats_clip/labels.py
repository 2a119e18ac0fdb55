"""BraTS labels and regions, as data.

Inside the package a label map always holds 0 background, 1 necrotic or non-enhancing core (NCR), 2 oedema (ED) and
4 enhancing tumour (ET), and regions come as channels in the order of ``REGIONS``: from the outermost to the
innermost, so that "nested" means "each channel lies inside the one before".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from os import PathLike

import numpy as np
import torch

from .errors import LabelError

NCR, ED, ET = 1, 2, 4
REGIONS: dict[str, tuple[int, ...]] = {"WT": (NCR, ED, ET), "TC": (NCR, ET), "ET": (ET,)}

# Public conventions: stored values mapped to the values above.
CONVENTIONS: dict[str, dict[int, int]] = {
    "BraTS 2018-2022 (ET=4)": {0: 0, 1: NCR, 2: ED, 4: ET},
    "BraTS 2023 and later (ET=3)": {0: 0, 1: NCR, 2: ED, 3: ET},
    "MSD Task01 (1=ED, 2=NCR, 3=ET)": {0: 0, 1: ED, 2: NCR, 3: ET},
}
BRATS_2018, BRATS_2023, MSD = CONVENTIONS
# Conventions of other tasks are read but never written: they have classes that this package does not distinguish.
OTHER_TASKS: dict[str, dict[int, int]] = {
    "BraTS-PED (1=ET, 2=NCR, 3=cyst, 4=ED)": {0: 0, 1: ET, 2: NCR, 3: NCR, 4: ED},
    "BraTS 2024 post-treatment (ET=3, 4=resection cavity)": {0: 0, 1: NCR, 2: ED, 3: ET, 4: 0},
}
BRATS_PED, BRATS_2024 = OTHER_TASKS
# A label 4 that was stored with a scale factor may be read as 4.0000457.
_ROUNDING = 1e-3


def detect_convention(values: set[int], where: str | PathLike, hint: str | None = None) -> str:
    """Name the label convention of a label map.

    Args:
        values: the distinct values of the map.
        where: the file they came from, named in errors.
        hint: the convention that the file names suggest; decides between BraTS 2023 and MSD, which use the
            same values for different tissues.

    Returns:
        A key of ``CONVENTIONS`` or ``OTHER_TASKS``. A map with neither 3 nor 4 is read as ``hint``, or as BraTS
        2018-2022.

    Raises:
        LabelError: if a value belongs to no convention, or 3 and 4 both occur.
    """
    unknown = values - {0, 1, 2, 3, 4}
    if not unknown and hint in OTHER_TASKS:
        return hint
    if unknown or {3, 4} <= values:
        raise LabelError(
            where,
            f"label values {few(sorted(values))}",
            "0, 1, 2 and one of 4 (BraTS 2018-2022) or 3 (BraTS 2023 and later, MSD Task01)",
        )
    if 4 in values:
        return BRATS_2018
    if hint is not None:
        if 3 in values and hint == BRATS_2018:
            return BRATS_2023
        return hint
    return BRATS_2023 if 3 in values else BRATS_2018


def few(values: Sequence[int], most: int = 8) -> str:
    """Format ``values`` as a list for a message: the first ``most``, and the number of further values."""
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return f"{list(values[:most])}{more}"


def to_internal(label: np.ndarray, where: str | PathLike, hint: str | None = None) -> tuple[np.ndarray, str]:
    """Map a stored label map to the values 0, 1, 2, 4 as ``uint8``; return it with the detected convention.

    Raises:
        LabelError: if a value is not a whole number or belongs to no convention.
    """
    label = np.asarray(label)
    values = np.unique(label)
    if not np.all(np.isfinite(values)) or np.abs(values - np.round(values)).max() > _ROUNDING:
        raise LabelError(where, f"label values such as {values[:5].tolist()}", "whole numbers 0, 1, 2 and 3 or 4")
    convention = detect_convention({round(float(v)) for v in values}, where, hint)
    lookup = np.zeros(5, np.uint8)
    for stored, internal in (CONVENTIONS | OTHER_TASKS)[convention].items():
        lookup[stored] = internal
    return lookup[np.rint(label).astype(np.int64)], convention


def from_internal(label: np.ndarray, convention: str = BRATS_2018) -> np.ndarray:
    """Map values 0, 1, 2, 4 to those of ``convention`` (a key of ``CONVENTIONS``), as ``uint8``."""
    lookup = np.zeros(5, np.uint8)
    for stored, internal in CONVENTIONS[convention].items():
        lookup[internal] = stored
    return lookup[np.asarray(label).astype(np.int64)]


def label_to_regions(label: torch.Tensor) -> torch.Tensor:
    """Turn a label map into regions: ``(1, D, H, W)`` to ``(3, D, H, W)``, or batched, float, in ``REGIONS`` order."""
    dim = label.ndim - 4
    # Comparing with each value is five times faster than torch.isin.
    channels = [reduce(torch.logical_or, [label == value for value in values]) for values in REGIONS.values()]
    return torch.cat(channels, dim=dim).float()


def nest(regions: torch.Tensor, dim: int) -> torch.Tensor:
    """Make regions nested (ET in TC in WT) along channel axis ``dim``: probabilities by minimum, masks by AND."""
    nested = [regions.select(dim, 0)]
    for channel in regions.unbind(dim)[1:]:  # fifty times faster than torch.cummin, which is single-threaded
        nested.append(torch.minimum(nested[-1], channel))
    return torch.stack(nested, dim=dim)


def regions_to_label(regions: torch.Tensor) -> torch.Tensor:
    """Turn nested binary regions ``(3, D, H, W)`` into a label map ``(1, D, H, W)``, ``uint8``, values 0, 1, 2, 4."""
    wt, tc, et = regions.bool()
    tc = tc & wt
    label = torch.zeros(wt.shape, dtype=torch.uint8, device=regions.device)
    for mask, value in ((wt, ED), (tc, NCR), (et & tc, ET)):
        label.masked_fill_(mask, value)
    return label.unsqueeze(0)


def keep_regions(label: np.ndarray, before: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return ``label`` with the regions ``names`` taken from ``before``; the other regions are adjusted to stay nested.

    Args:
        label, before: ``(X, Y, Z)``, values 0, 1, 2, 4.
        names: keys of ``REGIONS``.
    """
    masks = {name: np.isin(before if name in names else label, values) for name, values in REGIONS.items()}
    order = list(REGIONS)
    for at, name in enumerate(order):
        if name not in names:
            for other in names:
                masks[name] = masks[name] & masks[other] if order.index(other) < at else masks[name] | masks[other]
    return np.select([masks["ET"], masks["TC"], masks["WT"]], [ET, NCR, ED], 0).astype(np.uint8)
