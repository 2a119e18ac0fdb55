"""Random variation of the report in training: true, partial, missing, generic or wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from monai.transforms import Randomizable, Transform

from ..errors import InputError
from ..reports import PERTURBATIONS, Findings, split_sentences, write_report
from ..semantics import ClipEncoder
from .encode_semantics import report_inputs

WRONG = ("another_patient", "flip_side", "negate_enhancement", "swap_region", "scale_up", "scale_down")
IMPRECISION = 0.07  # relative error of lengths in a newly written report: about that between two readers


class RandVaryReportd(Randomizable, Transform):
    """Randomly replace ``report`` and the network's inputs from it, to teach the network how far to trust a report.

    The label is unchanged, so the image overrules a wrong report. One of the kinds below is drawn; otherwise the true
    report is used, which is the case's own or one written from ``findings``.

    Args:
        clip: encodes the report.
        none: probability of no report.
        partial: probability of a partial report: each sentence of the true report is kept with probability 0.5.
        generic: probability of a report that is true of any glioma.
        wrong: probability of one of ``WRONG``.
        written: probability that the true report is written anew from ``findings`` (as ``Findings.to_dict`` returns
            them); always done for a case with findings but without a report.
        pool: reports of other patients; if empty, "another_patient" is not drawn.

    Raises:
        InputError: if a probability is negative or they sum to more than 1.
    """

    def __init__(
        self,
        clip: ClipEncoder,
        none: float = 0.3,
        partial: float = 0.2,
        generic: float = 0.05,
        wrong: float = 0.15,
        written: float = 0.0,
        pool: Sequence[str] = (),
    ) -> None:
        shares = (none, partial, generic, wrong)
        if not (min(shares) >= 0 and sum(shares) <= 1):  # also False for NaN
            raise InputError("none, partial, generic, wrong", str(shares), "probabilities that sum to at most 1")
        self.clip, self.pool, self.written = clip, tuple(pool), written
        self.none, self.partial, self.generic, self.wrong = shares
        self._sentences: dict[str, torch.Tensor] = {}

    def __call__(self, data: Mapping) -> dict:
        text = self.vary(data)
        return {**data, "report": text, **report_inputs(text, self.clip, self._sentences)}

    def vary(self, data: Mapping) -> str:
        """Draw a report from the ``report`` and ``findings`` of ``data``."""
        text, kind = self._true_report(data), self._draw()
        if kind == "none" or not text:
            text = ""
        elif kind == "partial":
            text = " ".join(sentence for sentence in split_sentences(text) if self.R.random() < 0.5)
        elif kind == "wrong":
            text = self._wrong(text)
        elif kind == "generic":
            text = self._perturb(kind, text)
        return text

    def _true_report(self, data: Mapping) -> str:
        text, findings = data["report"], data.get("findings")
        if findings and (not text or self.R.random() < self.written):
            return write_report(Findings.from_dict(findings), self._generator(), imprecision=IMPRECISION)
        return text

    def _draw(self) -> str:
        draw = self.R.random()
        for kind in ("none", "partial", "generic", "wrong"):
            draw -= getattr(self, kind)
            if draw < 0:
                return kind
        return "true"

    def _wrong(self, text: str) -> str:
        """Apply one random error that changes the report: not every report states a size or a lobe."""
        kinds = WRONG if len(set(self.pool) - {text}) else WRONG[1:]
        for i in self.R.permutation(len(kinds)):
            wrong = self._perturb(kinds[i], text)
            if wrong != text:
                return wrong
        return text

    def _perturb(self, kind: str, text: str) -> str:
        return PERTURBATIONS[kind](text, self._generator(), self.pool)

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng(self.R.randint(2**31))
