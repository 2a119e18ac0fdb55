"""What is known of a case that nobody has labelled yet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from brats_clip.labels import REGIONS

FORMAT = 1  # of the JSON; files of another one are measured again


@dataclass(frozen=True)
class CaseScores:
    """What one model version shows of one case.

    Attributes:
        case_id: whose they are.
        version: of the model.
        identity: what told, when it was measured, whether the case is still the same: ``CasesToScore.identity``.
        volumes_ml: predicted volume of each region, ml.
        entropy: mean binary entropy in bits, 0 to 1, in and around each region as predicted; see ``measure``.
        descriptor: of the case in CLIP space, of unit norm; empty for a network without the bridge to CLIP.
        disagreement: 1 - Dice between the answers with and without the report, mean over regions; 0 without a report.
        consistency: 0 (report and image contradict each other) to 1; None where there is nothing to compare.
        has_report: whether the case has a report.
        seconds: that measuring took.
    """

    case_id: str
    version: str
    identity: str
    volumes_ml: Mapping[str, float]
    entropy: Mapping[str, float]
    descriptor: tuple[float, ...] = ()
    disagreement: float = 0.0
    consistency: float | None = None
    has_report: bool = False
    seconds: float = 0.0

    @property
    def mean_entropy(self) -> float:
        """Over the regions."""
        return sum(self.entropy.values()) / len(self.entropy)

    @property
    def report_disagreement(self) -> float:
        """The larger of ``disagreement`` and 1 - ``consistency``: a report that was left unused changes nothing."""
        return max(self.disagreement, 0.0 if self.consistency is None else 1.0 - self.consistency)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"format": FORMAT, **asdict(self), "descriptor": [round(value, 5) for value in self.descriptor]}

    @classmethod
    def from_dict(cls, content: Any) -> CaseScores:
        """Read what ``to_dict`` made.

        Raises:
            ValueError: for anything else, other formats among it.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"no scores of format {FORMAT}")
        values = {key: value for key, value in content.items() if key != "format"}
        try:
            scores = cls(**values | {"descriptor": tuple(map(float, values["descriptor"]))})
            figures = [scores.disagreement, scores.seconds, *scores.descriptor]
            for by_region in (scores.volumes_ml, scores.entropy):
                figures += [by_region[region] for region in REGIONS]
            figures += [] if scores.consistency is None else [scores.consistency]
            if not all(map(math.isfinite, figures)):
                raise ValueError("numbers that are not finite")
        except (TypeError, KeyError, AttributeError) as reason:
            raise ValueError(f"scores that lack something ({reason})") from reason
        return scores
