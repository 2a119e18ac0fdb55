"""Real and synthetic cases in one epoch, in a share that does not depend on how many there are of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch.utils.data import WeightedRandomSampler

from ..errors import InputError


def mixed_sampler(cases: Sequence[Mapping], synthetic_share: float) -> WeightedRandomSampler | None:
    """Draw real cases evenly among themselves, and synthetic ones for ``synthetic_share`` of the samples.

    An epoch has as many real samples, on average, as there are real cases. Draws are with replacement, from torch's
    global generator, so that a resumed training draws what the unbroken one would have.

    Args:
        cases: entries of a datalist; those with ``"synthetic": true`` are synthetic.
        synthetic_share: from 0 (none) to below 1.

    Returns:
        None, which stands for shuffling, where all cases are of one kind.

    Raises:
        InputError: for a share that is out of range.
    """
    if not 0 <= synthetic_share < 1:
        raise InputError("synthetic_share", str(synthetic_share), "a share from 0 to below 1")
    synthetic = [bool(case.get("synthetic")) for case in cases]
    made, real = sum(synthetic), len(cases) - sum(synthetic)
    if not made or not real:
        return None
    weights = [synthetic_share / made if one else (1 - synthetic_share) / real for one in synthetic]
    return WeightedRandomSampler(weights, round(real / (1 - synthetic_share)))
