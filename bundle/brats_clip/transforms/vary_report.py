"""The report as training shows it: true, in part, missing, saying nothing, or wrong."""

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


class RandVaryReportd(Randomizable, Transform):
    """Replace ``report`` and the network's inputs from it at random, so that it learns how far to trust one.

    The label stays what it is: where a report is wrong, the image is the judge. What is drawn is one of the kinds
    below; the rest see their true report: their own one, or one written from ``findings``.

    Args:
        clip: encodes the report.
        none: probability of no report.
        partial: probability that each sentence of the true report is kept with probability one half.
        generic: probability of a report that is true of any glioma.
        wrong: probability of one of ``WRONG``.
        written: probability that the true report is written in other words from ``findings`` (as
            ``Findings.to_dict`` gives them); always done for a case without a report that has findings.
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
        written: float = 0.0,
        pool: Sequence[str] = (),
    ) -> None:
        shares = (none, partial, generic, wrong)
        if not (min(shares) >= 0 and sum(shares) <= 1):  # NaN is neither
            raise InputError("none, partial, generic, wrong", str(shares), "probabilities that sum to at most 1")
        self.clip, self.pool, self.written = clip, tuple(pool), written
        self.none, self.partial, self.generic, self.wrong = shares
        self._sentences: dict[str, torch.Tensor] = {}

    def __call__(self, data: Mapping) -> dict:
        text, kind = self._true_report(data), self._draw()
        if kind == "none" or not text:
            text = ""
        elif kind == "partial":
            text = " ".join(sentence for sentence in split_sentences(text) if self.R.random() < 0.5)
        elif kind == "wrong":
            text = self._wrong(text)
        elif kind == "generic":
            text = self._perturb(kind, text)
        return {**data, "report": text, **report_inputs(text, self.clip, self._sentences)}

    def _true_report(self, data: Mapping) -> str:
        text, findings = data["report"], data.get("findings")
        if findings and (not text or self.R.random() < self.written):
            return write_report(Findings.from_dict(findings), self._generator())
        return text

    def _draw(self) -> str:
        draw = self.R.random()
        for kind in ("none", "partial", "generic", "wrong"):
            draw -= getattr(self, kind)
            if draw < 0:
                return kind
        return "true"

    def _wrong(self, text: str) -> str:
        """The report made wrong in one way that changes it: not every report has a size, or a lobe."""
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
