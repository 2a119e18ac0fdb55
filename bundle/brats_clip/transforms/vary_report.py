"""The report as training shows it: true, in part, missing, saying nothing, or wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from monai.transforms import Randomizable, Transform

from ..errors import InputError
from ..reports import PERTURBATIONS
from ..semantics import ClipEncoder, encode_report

WRONG = ("another_patient", "flip_side", "negate_enhancement", "swap_region")


class RandVaryReportd(Randomizable, Transform):
    """Replace the encoded report at random, so that the network learns how far to trust one.

    The label stays what it is: where a report is wrong, the image is the judge. What is drawn is one of the kinds
    below; the rest see their true report.

    Args:
        clip: encodes what is not the true report.
        none: probability of no report.
        partial: probability that each sentence of the true report is kept with probability one half.
        generic: probability of a report that is true of any glioma.
        wrong: probability of one of ``WRONG``.
        pool: reports of other patients; without any, no report of another patient is drawn.

    Raises:
        InputError: if the probabilities do not fit into 0 to 1.
    """

    def __init__(
        self,
        clip: ClipEncoder,
        none: float = 0.3,
        partial: float = 0.2,
        generic: float = 0.05,
        wrong: float = 0.15,
        pool: Sequence[str] = (),
    ) -> None:
        shares = (none, partial, generic, wrong)
        if not (min(shares) >= 0 and sum(shares) <= 1):  # NaN is neither
            raise InputError("none, partial, generic, wrong", str(shares), "probabilities that sum to at most 1")
        self.clip, self.pool = clip, tuple(pool)
        self.none, self.partial, self.generic, self.wrong = shares

    def __call__(self, data: Mapping) -> dict:
        mask, draw = data["report_mask"], self.R.random()
        if draw < self.none:
            return {**data, "report_mask": torch.zeros_like(mask)}
        draw -= self.none
        if draw < self.partial:
            return {**data, "report_mask": mask & torch.from_numpy(self.R.random(len(mask)) < 0.5)}
        draw -= self.partial
        if draw < self.generic:
            return self._replace(data, "generic")
        draw -= self.generic
        if draw < self.wrong:
            kinds = WRONG if len(set(self.pool) - {data["report"]}) else WRONG[1:]
            return self._replace(data, kinds[self.R.randint(len(kinds))])
        return dict(data)

    def _replace(self, data: Mapping, kind: str) -> dict:
        if not data["report"]:
            return dict(data)
        text = PERTURBATIONS[kind](data["report"], np.random.default_rng(self.R.randint(2**31)), self.pool)
        tokens = encode_report(text, self.clip)
        return {**data, "report_tokens": tokens, "report_mask": torch.ones(len(tokens), dtype=torch.bool)}
