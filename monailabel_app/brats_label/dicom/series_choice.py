"""Which series of a study is T1, T1ce, T2 and FLAIR, from their headers, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..cases.case import SEQUENCES, ChosenImage, LeftOutImage
from .contrast import settle_contrast
from .questions import SPOKEN, Question, answered, ask
from .series import SeriesHeader
from .series_rules import FAT_SUPPRESSED_WORDS, MIN_COVER_MM, REFORMATS, THIN_MM, normalise
from .verdict import Verdict, judge


@dataclass(frozen=True)
class StudyChoice:
    """What the series of a study are for.

    Attributes:
        chosen: one series per sequence that there is; ``image_id`` is the SeriesInstanceUID.
        left_out: the others, with the reason.
        questions: series that are neither, until the images were looked at: ask ``choose`` again with the answers.
    """

    chosen: Mapping[str, ChosenImage] = field(default_factory=dict)
    left_out: tuple[LeftOutImage, ...] = ()
    questions: tuple[Question, ...] = ()

    @property
    def needs_image(self) -> bool:
        """Whether the headers were not enough."""
        return bool(self.questions)


def choose(series: Iterable[SeriesHeader], answers: Mapping[str, str] | None = None) -> StudyChoice:
    """Choose one series per sequence.

    Args:
        series: the headers of all series of a study.
        answers: what ``tell_by_image`` found, sequence by SeriesInstanceUID; "" for a series that is none of the four.
    """
    verdicts = answered([judge(header) for header in series], answers or {})
    left_out = [verdict for verdict in verdicts if not verdict.what]
    verdicts = settle_contrast([verdict for verdict in verdicts if verdict.what])
    verdicts, questions = ask(verdicts)
    asked = {uid for question in questions for uid in question.uids}
    unknown = [v for v in verdicts if v.what == "unknown" and v.header.uid not in asked]
    left_out += [replace(v, reason=f"neither headers nor other series tell what it shows: {v.reason}") for v in unknown]
    chosen = {}
    for sequence in SEQUENCES:
        ranked = sorted((v for v in verdicts if v.what == sequence and v.header.uid not in asked), key=_rank)
        if not ranked:
            continue
        best = ranked[0]
        chosen[sequence] = ChosenImage(sequence, best.header.uid, best.header.name, best.reason)
        left_out += [replace(v, reason=_worse(v, best, SPOKEN[sequence])) for v in ranked[1:]]
    left = tuple(LeftOutImage(v.header.uid, v.header.name, v.reason) for v in left_out)
    return StudyChoice(chosen, left, tuple(questions))


def _is_derived(header: SeriesHeader) -> bool:
    return "DERIVED" in header.image_type[:1] or bool(REFORMATS & set(header.image_type[2:]))


def _covers(header: SeriesHeader) -> bool:
    return not (header.slices and header.slice_mm) or header.slices * header.slice_mm >= MIN_COVER_MM


def _is_thin(header: SeriesHeader) -> bool:
    return header.acquisition_type == "3D" or (header.slice_mm is not None and header.slice_mm <= THIN_MM)


def _is_fat_suppressed(header: SeriesHeader) -> bool:
    return bool(FAT_SUPPRESSED_WORDS.search(normalise(header.description)))


# What is wanted, most important first: lower is better. The words follow "which".
CRITERIA: tuple[tuple[Callable[[SeriesHeader], float], str], ...] = (
    (lambda h: not _covers(h), "covers more of the head"),
    (lambda h: _is_derived(h), "is original, not derived"),
    (lambda h: not _is_thin(h), "is 3D"),
    (lambda h: _is_fat_suppressed(h), "is without fat suppression"),
    (lambda h: round(h.slice_mm or 99.0, 1), "has thinner slices"),
    (lambda h: round(h.voxel_mm3 or 999.0, 2), "has finer voxels"),
    (lambda h: -h.slices, "has more slices"),
    (lambda h: -float(h.acquired or 0), "was taken later"),
    (lambda h: -(h.number or 0), "has the higher series number"),
)


def _rank(verdict: Verdict) -> tuple:
    return (*(criterion(verdict.header) for criterion, _ in CRITERIA), verdict.header.uid)


def _worse(verdict: Verdict, best: Verdict, spoken: str) -> str:
    """Why ``best`` was preferred."""
    words = next((w for c, w in CRITERIA if c(verdict.header) != c(best.header)), "is the same by its headers")
    return f"another {spoken}; {best.header.name} was taken instead, which {words}"
