"""Split the output of ``BrainInferer(attention=True)`` into logits and attention maps."""

from __future__ import annotations

from collections.abc import Mapping

from monai.transforms import Transform

from ..labels import REGIONS


class SplitAttentiond(Transform):
    """Split ``pred`` ``(6, D, H, W)`` into logits under ``pred`` and attention, in 0 to 1, under ``attention``.

    A prediction of a network without semantic attention, ``(3, D, H, W)``, stays as it is.
    """

    def __call__(self, data: Mapping) -> dict:
        regions = len(REGIONS)
        both = data["pred"]
        if both.shape[0] <= regions:
            return dict(data)
        return {**data, "pred": both[:regions], "attention": both[regions:]}
