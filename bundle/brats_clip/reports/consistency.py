"""Compare a report with a segmentation, finding by finding, and warn the annotator where they disagree."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .describe import MIN_LOBE_SHARE
from .evidence import ImageEvidence
from .features import FINDING_SLOTS
from .findings import LOBES
from .places import LOBAR, listing
from .reading import LANGUAGES_READ, english_text, language_of, read_findings
from .size_check import compare_size

# A disagreement in a finding lowers the score by at most this share. Images show the side reliably, enhancement less so
# (faint enhancement is missed, a vessel mistaken for it), and readers define oedema and necrosis differently.
_WEIGHTS = {"lesion": 0.95, "side": 0.95, "lobes": 0.8, "enhancement": 0.7, "oedema": 0.5, "size": 0.4, "necrosis": 0.3}
# The annotator is warned below this agreement.
_WARN = 0.25
# Only applied to reports that state no finding of a lesion.
_NO_LESION = re.compile(
    r"\bno\b(?! (?:other|further|additional|second|new)\b)(?![^.;,]{0,60}\b(?:progression|recurrence|growth)\b)"
    r"[^.;,]{0,40}\b(?:mass(?:es)?(?![\s-]effect)|tumou?rs?(?! core)|lesions?|neoplasms?)\b"
    r"|\bbrain\b[^.;,]{0,20}\b(?<!not )(?:normal|unremarkable)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class FindingCheck:
    """One finding, as the report states it and as the image shows it.

    Args:
        finding: "lesion", "side", "lobes", "enhancement", "oedema", "necrosis" or "size".
        said: what the report states.
        seen: what the segmentation shows.
        agreement: 0 (they contradict each other) to 1.
        warning: a sentence for the annotator; ``None`` if they agree well enough.
    """

    finding: str
    said: str
    seen: str
    agreement: float
    warning: str | None = None


@dataclass(frozen=True)
class Consistency:
    """How well a report and an image agree.

    Args:
        score: 0 (they contradict each other) to 1; ``None`` when the report states nothing that can be checked.
        checks: the findings that were compared.
        notices: messages about the report as a whole: that none of it was understood.
    """

    score: float | None
    checks: tuple[FindingCheck, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the annotator, worst first."""
        return tuple(check.warning for check in sorted(self.checks, key=_factor) if check.warning)

    @property
    def same_place(self) -> bool:
        """Whether the side and lobes that the report states, if any, agree with the image.

        A contradiction means another patient's report or a mistake in it, which must not guide the segmentation. Only
        the sides "left" and "right" can contradict the image: if both sides are reported, the image may show one
        lesion because the network missed the other, and then the report can help.
        """
        place = [
            c for c in self.checks if c.finding == "lobes" or (c.finding == "side" and c.said in ("left", "right"))
        ]
        return all(check.agreement >= _WARN for check in place)

    @property
    def trusted(self) -> tuple[bool, ...]:
        """Whether each of ``FINDING_SLOTS`` may guide the segmentation: not those that the image contradicts, and none
        of a report about another place."""
        doubted = {check.finding for check in self.checks if check.warning}
        return tuple(
            self.same_place and ("size" if slot.endswith(" size") else slot) not in doubted for slot in FINDING_SLOTS
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        checks = [asdict(check) for check in self.checks]
        return {
            "score": self.score,
            "warnings": list(self.warnings),
            "notices": list(self.notices),
            "checks": checks,
        }


def compare_with_image(report: str, image: ImageEvidence, unseen: Collection[str] = ()) -> Consistency:
    """Compare a report with a segmentation that was made without it.

    Sides and lobes follow the rules of ``describe_mask``, with a tolerance for their imprecision: tissue near the
    midline counts for both sides, and tissue near a border for both lobes. Everything is weighted by probability. The
    score is the product of the agreements, each weighted by how reliably an image shows the finding; one clear
    contradiction makes it low. Mass effect is not checked. Sizes are compared leniently (see ``size_check``). "lesion"
    is checked only if the report or the image shows none. A report that is not understood has a notice but no score.

    Args:
        report: the text.
        image: the evidence, which can be reused for many reports.
        unseen: findings that the image cannot show, such as enhancement without T1ce; they are not compared.
    """
    said = {name: None if name in unseen else value for name, value in read_findings(report).items()}
    if "enhancement" in unseen and said["sizes"]:  # the core cannot be measured without it, either
        said["sizes"] = {part: size for part, size in said["sizes"].items() if part == "whole"} or None
    named = said["enhancement"] == "present" or any(said[name] for name in ("side", "lobes", "oedema", "necrosis"))
    checks = []
    if (named and image.empty) or (not named and _NO_LESION.search(english_text(report))):
        checks.append(_check_lesion(named, image))
    if not image.empty:
        found = [check(said[name], image) for name, check in _CHECKS.items() if said[name] is not None]
        checks += [check for check in found if check is not None]
    score = round(float(np.prod([_factor(check) for check in checks])), 4) if checks else None
    return Consistency(
        score, tuple(checks), _notices(report, bool(checks) or any(value is not None for value in said.values()))
    )


def _notices(report: str, understood: bool) -> tuple[str, ...]:
    if not re.search(r"\w", report) or understood:
        return ()
    language = language_of(report)
    if language not in LANGUAGES_READ:
        return (
            f"The report was not understood and not compared with the image: its language ({language}) is not one of "
            f"{', '.join(LANGUAGES_READ)}.",
        )
    return ("The report was not understood: no finding was read in it, and nothing was compared with the image.",)


def _check_lesion(named: bool, image: ImageEvidence) -> FindingCheck:
    seen = "nothing" if image.empty else f"{image.wt_ml:.1f} ml"
    if named:
        return _checked("lesion", "present", seen, 0.0, "The report names a lesion; none is segmented.")
    warning = f"The report says there is no lesion; {seen} of tumour are segmented."
    return _checked("lesion", "absent", seen, 1 - _presence(image.wt_ml, 1.0), warning)


def _check_side(said: str, image: ImageEvidence) -> FindingCheck:
    minor = min(image.right, 1 - image.right)
    side = "right" if image.right > 0.5 else "left"
    if said in ("left", "right"):
        # Up to 20 % across the midline is still one-sided (see ``describe.MAX_CROSSING``).
        agreement = 1 - _ramp(1 - image.right if said == "right" else image.right, 0.25, 0.9)
    else:
        # The network may miss a small second lesion: the agreement stays above 0, and same_place ignores this.
        agreement = _ramp(minor, -0.02, 0.1)
        if said == "midline":
            agreement = max(agreement, image.central)
    words = {"bilateral": "both sides", "midline": "the midline"}.get(said, said)
    warning = f"The report says {words}; the tumour is on the {side}."
    return _checked("side", said, f"{side} ({1 - minor:.0%})", agreement, warning)


def _check_lobes(said: tuple[str, ...], image: ImageEvidence) -> FindingCheck:
    in_lobe = image.in_lobe[:, [LOBES.index(name) for name in said]]
    # Each named lobe should contain some tumour, and together they should contain much of it.
    held = np.mean([_ramp(share, 0.0, 0.1) for share in image.share @ in_lobe])
    agreement = float(held) * _ramp(float(image.share @ in_lobe.max(axis=1)), 0.1, 0.5)
    order = sorted(image.lobes, key=image.lobes.get, reverse=True)
    main = [name for name in order if image.lobes[name] >= MIN_LOBE_SHARE] or order[:1]
    seen = ", ".join(f"{name} {image.lobes[name]:.0%}" for name in main)
    warning = f"The report names {_place(said)}; the tumour lies in {_place(main)}."
    return _checked("lobes", ", ".join(said), seen, agreement, warning)


def _check_enhancement(said: str, image: ImageEvidence) -> FindingCheck:
    return _check_part("enhancement", said == "present", image, image.et, "enhancing tumour", 0.1, 1.0)


def _check_oedema(said: bool, image: ImageEvidence) -> FindingCheck:
    return _check_part("oedema", said, image, image.wt - image.tc, "oedema", 0.3, 10.0)


def _check_necrosis(said: bool, image: ImageEvidence) -> FindingCheck:
    # NCR is necrosis or solid core that does not enhance, so a denial of necrosis is never fully contradicted.
    least = 0.0 if said else 0.4 if image.necrotic() else 1.0
    return _check_part("necrosis", said, image, image.tc - image.et, "core without enhancement", 0.1, 2.0, least)


def _check_sizes(said: dict[str, dict[str, Any]], image: ImageEvidence) -> FindingCheck | None:
    compared = [compare_size(part, size, image) for part, size in said.items()]
    worst = min(filter(None, compared), key=lambda size: size.agreement, default=None)
    if worst is None:
        return None
    warning = f"The report gives {worst.said}; {worst.seen} are segmented."
    return _checked("size", worst.said, worst.seen, worst.agreement, warning)


def _check_part(
    finding: str,
    said: bool,
    image: ImageEvidence,
    part: np.ndarray,
    tissue: str,
    confirms_ml: float,
    contradicts_ml: float,
    least: float = 0.0,
) -> FindingCheck:
    """Check a tissue. A small volume of low probability confirms it; a larger, more probable one refutes a denial."""
    sure_ml = image.ml(part, 0.35)
    agreement = _presence(image.ml(part, 0.1), confirms_ml) if said else 1 - _presence(sure_ml, contradicts_ml)
    seen = f"{sure_ml:.1f} ml of {tissue}"
    warning = f"hardly any {tissue} is segmented." if said else f"{seen} are segmented."
    warning = f"The report says {'' if said else 'no '}{finding}; {warning}"
    return _checked(finding, "present" if said else "absent", seen, max(agreement, least), warning)


_CHECKS = {
    "side": _check_side,
    "lobes": _check_lobes,
    "enhancement": _check_enhancement,
    "oedema": _check_oedema,
    "necrosis": _check_necrosis,
    "sizes": _check_sizes,
}


def _checked(finding: str, said: str, seen: str, agreement: float, warning: str) -> FindingCheck:
    return FindingCheck(finding, said, seen, round(agreement, 4), warning if agreement < _WARN else None)


def _factor(check: FindingCheck) -> float:
    return 1 - _WEIGHTS[check.finding] * (1 - check.agreement)


def _ramp(value: float, low: float, high: float) -> float:
    """Rise linearly from 0 at ``low`` to 1 at ``high``."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _presence(ml: float, half_ml: float) -> float:
    """Evidence for a tissue by its volume, 0 to 1; 0.5 at ``half_ml``."""
    return ml**2 / (ml**2 + half_ml**2)


def _place(lobes: Iterable[str]) -> str:
    names = {"insular": "insula", "deep": "deep grey matter"}
    return listing([f"the {name} lobe" if name in LOBAR else f"the {names.get(name, name)}" for name in lobes])
