"""Report dropout: the network must answer with a report, with part of one, and without."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from monai.transforms import Randomizable, Transform

from ..errors import InputError


class RandDropReportd(Randomizable, Transform):
    """Hide the report, or some of its sentences, at random.

    Works on the mask of the encoded sentences, so that nothing is encoded again.

    Args:
        none: probability of no report at all.
        partial: probability that each sentence is kept with probability one half; the rest see all of it.

    Raises:
        InputError: if the probabilities do not fit into 0 to 1.
    """

    def __init__(self, none: float = 0.4, partial: float = 0.3) -> None:
        if not (none >= 0 and partial >= 0 and none + partial <= 1):
            raise InputError("none, partial", f"{none}, {partial}", "probabilities that sum to at most 1")
        self.none, self.partial = none, partial

    def __call__(self, data: Mapping) -> dict:
        result = dict(data)
        mask = data["report_mask"]
        draw = self.R.random()
        if draw < self.none:
            result["report_mask"] = torch.zeros_like(mask)
        elif draw < self.none + self.partial:
            result["report_mask"] = mask & torch.from_numpy(self.R.random(len(mask)) < 0.5)
        return result
