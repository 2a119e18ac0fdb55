"""Assign series of a study to T1, T1ce, T2 and FLAIR by their headers, with reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from brats_clip.cases.contrast_words import resolve_hyphens

from .. import SEQUENCES, ChosenImage, LeftOutImage
from .series import SeriesHeader
from .series_rules import FAT_SUPPRESSED_WORDS, MIN_COVER_MM, REFORMATS, THIN_MM, normalise
from .verdict import BY_AGENT, Verdict, judge


@dataclass(frozen=True)
class StudyChoice:
    """The series chosen for the sequences of a study.

    Attributes:
        chosen: one series per available sequence; ``image_id`` is the SeriesInstanceUID.
        left_out: the other series, with the reason.
        questions: what the images must decide; call ``choose`` again with the answers. Series that the headers do not
            identify are not chosen until then.
        notes: for users, on series identified by their images, against or without headers.
    """

    chosen: Mapping[str, ChosenImage] = field(default_factory=dict)
    left_out: tuple[LeftOutImage, ...] = ()
    questions: tuple[Question, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def needs_image(self) -> bool:
        """Whether the headers are not enough, so that images must be fetched."""
        return bool(self.questions)


def choose(series: Iterable[SeriesHeader], answers: Mapping[str, str] | None = None) -> StudyChoice:
    """Choose one series per sequence.

    Args:
        series: the headers of all series of a study.
        answers: what ``sequences_by_image`` found, sequence by SeriesInstanceUID; "" for a series that is none of
            the four.
    """
    answers = answers or {}
    verdicts = answered(_apply_hyphen_rule([judge(header) for header in series]), answers)
    left_out = [verdict for verdict in verdicts if not verdict.what]
    verdicts = settle_contrast([verdict for verdict in verdicts if verdict.what])
    verdicts, questions = ask(verdicts)
    asked = {uid for question in questions for uid in question.uids}
    questions += doubts([v for v in verdicts if v.header.uid not in {*asked, *answers}])
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
    told = [image for image in chosen.values() if answers.get(image.image_id)]
    notes = tuple(f"{SPOKEN[image.sequence]} was told by the images: {image.name}, {image.reason}." for image in told)
    return StudyChoice(chosen, left, tuple(questions), notes)


def _apply_hyphen_rule(verdicts: list[Verdict]) -> list[Verdict]:
    """Read "T1-C" as native if another series is called "T1+C"."""
    said = resolve_hyphens({v.header.uid: v.said for v in verdicts if v.what == "t1"})
    changed = {v.header.uid for v in verdicts if v.header.uid in said and said[v.header.uid] != v.said}
    return [
        replace(v, contrast="no", reason=f"{v.reason}; the hyphen says without, beside a plus sign")
        if v.header.uid in changed
        else v
        for v in verdicts
    ]


def doubts(verdicts: list[Verdict]) -> list[Question]:
    """Return questions on T1 series with doubtful headers: descriptions against ContrastBolusAgent, or none is native.

    The images decide; until then, the descriptions are believed. Only series acquired alike are compared (plane, 2D or
    3D, fat suppression, derived or not): a native T1 and its T1ce mostly are.
    """
    t1s = [v for v in verdicts if v.what in ("t1", "t1ce")]
    denied = any(v.said.answer == "no" and v.header.contrast_agent for v in t1s)
    against = denied and any(v.contrast == "yes" and not v.header.contrast_agent for v in t1s)
    if not against and any(v.what == "t1" for v in t1s):
        return []
    alike: dict[tuple, list[str]] = {}
    for v in t1s:
        key = (v.header.plane, v.header.acquisition_type, _is_fat_suppressed(v.header), _is_derived(v.header))
        alike.setdefault(key, []).append(v.header.uid)
    return [Question(("t1", "t1ce"), tuple(uids)) for uids in alike.values() if len(uids) > 1]


def _is_derived(header: SeriesHeader) -> bool:
    return "DERIVED" in header.image_type[:1] or bool(REFORMATS & set(header.image_type[2:]))


def _covers(header: SeriesHeader) -> bool:
    return not (header.slices and header.slice_mm) or header.slices * header.slice_mm >= MIN_COVER_MM


def _is_thin(header: SeriesHeader) -> bool:
    return header.acquisition_type == "3D" or (header.slice_mm is not None and header.slice_mm <= THIN_MM)


def _is_fat_suppressed(header: SeriesHeader) -> bool:
    return bool(FAT_SUPPRESSED_WORDS.search(normalise(header.description)))


# Criteria of preference, most important first; lower is better. The words follow "which".
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


def settle_contrast(verdicts: list[Verdict]) -> list[Verdict]:
    """Split T1-weighted series into T1 and T1ce, as far as headers tell. Once given, the agent stays in the patient."""
    verdicts = _distrust_agent(verdicts)
    given = [v.header.acquired for v in verdicts if v.contrast == "yes" and v.header.acquired]
    first = min(given, default="")
    some = any(v.what == "t1" and v.contrast == "yes" for v in verdicts)
    settled = []
    for v in verdicts:
        if v.what == "t1" and v.contrast == "yes":
            v = replace(v, what="t1ce")
        elif v.what == "t1" and not v.contrast and first and v.header.acquired > first:
            v = replace(v, what="t1ce", contrast="yes", reason=f"{v.reason}; taken after contrast agent was given")
        elif v.what == "t1" and not v.contrast and some:
            v = replace(v, contrast="no", reason=f"{v.reason}; no sign of contrast agent, and another series has one")
        settled.append(v)
    return settled


def _distrust_agent(verdicts: list[Verdict]) -> list[Verdict]:
    """Ignore ContrastBolusAgent if it was entered for the whole exam: then it does not distinguish the series."""
    t1s = [v for v in verdicts if v.what == "t1"]
    everywhere = len(t1s) > 1 and all(v.contrast == "yes" for v in t1s)
    if not everywhere and not any(v.contrast == "no" and v.header.contrast_agent for v in t1s):
        return verdicts
    says = "ContrastBolusAgent is ignored, since it is set for the whole exam"
    return [
        replace(v, contrast="", by_agent=False, reason=v.reason.replace(BY_AGENT, says)) if v.by_agent else v
        for v in verdicts
    ]


SPOKEN = {"t1": "T1", "t1ce": "T1 with contrast agent", "t2": "T2", "flair": "FLAIR"}


@dataclass(frozen=True)
class Question:
    """Series that headers cannot tell apart, for ``sequences_by_image``.

    Attributes:
        sequences: the possible sequences.
        uids: their SeriesInstanceUIDs.
    """

    sequences: tuple[str, ...]
    uids: tuple[str, ...]


def ask(verdicts: list[Verdict]) -> tuple[list[Verdict], list[Question]]:
    """Find the questions that only the images can answer.

    Args:
        verdicts: of the candidate series of a study, with contrast settled as far as headers tell.

    Returns:
        The verdicts, with T2 inferred from FLAIR or the reverse where possible, and the questions.
    """
    questions = []
    silent = [v for v in verdicts if v.what == "t1" and not v.contrast]
    native = [v for v in verdicts if v.what == "t1" and v.contrast == "no"]
    either = [v for v in verdicts if v.what == "t2 or flair"]
    if len(verdicts) == len(SEQUENCES) and all(v.what == "unknown" for v in verdicts):
        return verdicts, [Question(SEQUENCES, tuple(v.header.uid for v in verdicts))]
    if silent and len(silent) + len(native) > 1 and not any(v.what == "t1ce" for v in verdicts):
        questions.append(Question(("t1", "t1ce"), tuple(v.header.uid for v in [*native, *silent])))
    if either:
        known = {v.what for v in verdicts} & {"t2", "flair"}
        if len(either) == 1 and len(known) == 1:
            other = ({"t2", "flair"} - known).pop()
            reason = f"{either[0].reason}; T2 or FLAIR, and another series is {SPOKEN[known.pop()]}"
            verdicts = [replace(v, what=other, reason=reason) if v is either[0] else v for v in verdicts]
        else:
            questions.append(Question(("t2", "flair"), tuple(v.header.uid for v in either)))
    return verdicts, questions


def answered(verdicts: list[Verdict], answers: Mapping[str, str]) -> list[Verdict]:
    """Apply the answers of the images. If all T1 look alike, and all their headers say contrast agent, all are T1ce."""
    t1s = [v for v in verdicts if answers.get(v.header.uid) in ("t1", "t1ce")]
    alike = len(t1s) > 1 and all(v.contrast == "yes" and answers[v.header.uid] == "t1" for v in t1s)
    after = {v.header.uid for v in t1s} if alike else ()
    return [
        replace(v, by_agent=False, reason=f"{v.reason}, and all T1 look alike") if v.header.uid in after else told
        for v, told in ((v, _by_answer(v, answers)) for v in verdicts)
    ]


def _by_answer(verdict: Verdict, answers: Mapping[str, str]) -> Verdict:
    uid = verdict.header.uid
    if not verdict.what or uid not in answers:
        return verdict
    sequence, by_words = answers[uid], verdict.what == "t1" and verdict.said.answer
    if not sequence and by_words:
        return replace(verdict, reason=f"{verdict.reason}; headers contradict, and the image does not tell")
    if not sequence:
        return replace(verdict, what="", reason="headers do not say what it shows, and the image does not tell")
    contrast = {"t1": "no", "t1ce": "yes"}.get(sequence, "")
    doubt = "headers contradict" if by_words else "headers do not say"
    reason = f"the image itself looks like {SPOKEN[sequence]}; {doubt} ({verdict.reason})"
    what = "t1" if sequence == "t1ce" else sequence
    return replace(verdict, what=what, contrast=contrast, reason=reason, by_agent=False)
