"""Which series of a study is T1, T1ce, T2 and FLAIR, from their headers, and why; the rules are in ``series_rules``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..cases.case import SEQUENCES, ChosenImage, LeftOutImage
from .image_choice import tell_by_image
from .series import ENHANCED_MR_STORAGE, LEGACY_ENHANCED_MR_STORAGE, SeriesHeader
from .series_rules import (
    CONTRAST_WORDS,
    FAT_SUPPRESSED_WORDS,
    HEAD_WORDS,
    LEFT_OUT_IMAGE_TYPES,
    LEFT_OUT_WORDS,
    MIN_COVER_MM,
    MIN_SLICES,
    NATIVE_WORDS,
    OTHER_PARTS,
    REFORMAT_WORD,
    REFORMATS,
    THIN_MM,
    TIMINGS,
    WEIGHTING_WORDS,
    Timing,
    normalise,
)

__all__ = ["Question", "SeriesHeader", "StudyChoice", "Verdict", "choose", "judge", "tell_by_image"]

BY_AGENT = "ContrastBolusAgent is set"
SPOKEN = {"t1": "T1", "t1ce": "T1 with contrast agent", "t2": "T2", "flair": "FLAIR"}


@dataclass(frozen=True)
class Question:
    """Series that headers do not tell apart; ``tell_by_image`` does.

    Attributes:
        sequences: what they may be.
        uids: their SeriesInstanceUIDs.
    """

    sequences: tuple[str, ...]
    uids: tuple[str, ...]


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


@dataclass(frozen=True)
class Verdict:
    """What one series is, by its own headers.

    Attributes:
        what: "t1", "t1ce", "t2", "flair", "t2 or flair", "unknown"; or "" if it is left out.
        reason: in words.
        contrast: "yes", "no" or "" where headers do not say.
        by_agent: ContrastBolusAgent alone says "yes".
    """

    header: SeriesHeader
    what: str
    reason: str
    contrast: str = ""
    by_agent: bool = False


def choose(series: Iterable[SeriesHeader], answers: Mapping[str, str] | None = None) -> StudyChoice:
    """Choose one series per sequence.

    Args:
        series: the headers of all series of a study.
        answers: what ``tell_by_image`` found, sequence by SeriesInstanceUID; "" for a series that is none of the four.
    """
    verdicts = _answered([judge(header) for header in series], answers or {})
    left_out = [verdict for verdict in verdicts if not verdict.what]
    verdicts = _settle_contrast([verdict for verdict in verdicts if verdict.what])
    verdicts, questions = _ask(verdicts)
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


def judge(header: SeriesHeader) -> Verdict:
    """Tell what one series is, without looking at the others."""
    if reason := _unfit(header):
        return Verdict(header, "", reason)
    what, reason = "", ""
    for text, where in ((header.description, "description"), (header.protocol, "protocol"), (header.sequence_name, "")):
        words = normalise(text)
        if REFORMATS & set(header.image_type[2:]):
            words = REFORMAT_WORD.sub(" ", words)
        unwanted = next((rule for rule in LEFT_OUT_WORDS if rule.pattern.search(words)), None)
        if unwanted:
            return Verdict(header, "", f"{unwanted.meaning}, says '{text}'")
        found = next((rule for rule in WEIGHTING_WORDS if rule.pattern.search(words)), None)
        if found:
            what, reason = found.meaning, f"{where or 'sequence name'} '{text}'"
            break
    timed, why = _by_timing(header)
    if timed == "echo-planar":
        return Verdict(header, "", f"echo-planar, by {why}")
    if what == "t2" and timed == "proton-density-weighted":
        return Verdict(header, "", f"proton-density-weighted, by {why}")
    if what == "t2" and timed == "flair" and header.ti_ms is not None:
        what, reason = "flair", f"{reason}, and an inversion that nulls fluid: FLAIR by {why}"
    if what == "flair" and timed == "t1":
        what, reason = "t1", f"{reason}, and a short echo: T1-weighted FLAIR by {why}"
    if not what:
        if timed not in ("t1", "t2", "flair", "t2 or flair", "unknown"):
            return Verdict(header, "", f"{timed}, by {why}")
        what, reason, words = timed, why, ""
    contrast, said = _contrast(header, words)
    said_too = f"{reason}; {said}" if said and what == "t1" else reason
    return Verdict(header, what, said_too, contrast, said == BY_AGENT)


def _unfit(header: SeriesHeader) -> str:
    """Why a series cannot be any of the four sequences, whatever its description; "" if it can."""
    if header.modality != "MR":
        return f"{header.modality or 'unknown modality'}, not MR"
    if header.sop_class in (ENHANCED_MR_STORAGE, LEGACY_ENHANCED_MR_STORAGE):
        return "a multi-frame (Enhanced MR) series, which is not read; send it as plain MR images"
    part = normalise(header.body_part)
    if OTHER_PARTS.search(part) and not HEAD_WORDS.search(part):
        return f"not of the brain: BodyPartExamined is {header.body_part}"
    kinds = header.image_type[2:]
    for kind in kinds:
        if kind in LEFT_OUT_IMAGE_TYPES:
            return f"{LEFT_OUT_IMAGE_TYPES[kind]}, says ImageType {kind}"
    if "SECONDARY" in header.image_type[:2] and not REFORMATS & set(kinds):
        return f"derived from other images: ImageType {'/'.join(header.image_type)}"
    if header.b_value is not None and header.b_value > 0:
        return f"diffusion-weighted, b = {header.b_value:g}"
    if header.slices and header.slices < MIN_SLICES:
        return f"{header.slices} slices, too few for a brain"
    return ""


def _by_timing(header: SeriesHeader) -> tuple[str, str]:
    """What TR, TE and TI say, and which they are."""
    times = {"TR": header.tr_ms, "TE": header.te_ms, "TI": header.ti_ms}
    said = ", ".join(f"{name} {value:g} ms" for name, value in times.items() if value is not None)
    if header.scanning_sequence:
        said = f"{said}, {'/'.join(header.scanning_sequence)}" if said else "/".join(header.scanning_sequence)
    row = next((row for row in TIMINGS if _matches(row, header)), None)
    if row is None:
        return "unknown", f"no description; {said or 'no TR, TE or TI'}"
    return row.weighting, said


def _matches(row: Timing, header: SeriesHeader) -> bool:
    for limits, value in ((row.tr, header.tr_ms), (row.te, header.te_ms), (row.ti, header.ti_ms)):
        if limits is not None and (value is None or not limits[0] <= value <= limits[1]):
            return False
    if row.scanning and not set(row.scanning) & set(header.scanning_sequence):
        return False
    if set(row.without_scanning) & set(header.scanning_sequence):
        return False
    return row.inverted is None or row.inverted == (header.ti_ms is not None)


def _contrast(header: SeriesHeader, words: str) -> tuple[str, str]:
    """Whether contrast agent was given, and what says so; the description is believed before the agent's tag."""
    native, agent = NATIVE_WORDS.search(words), CONTRAST_WORDS.search(NATIVE_WORDS.sub(" ", words))
    if agent and not native:
        return "yes", f"'{agent.group().strip()}' says contrast agent"
    if native and not agent:
        return "no", f"'{native.group().strip()}' says no contrast agent"
    if header.contrast_agent:
        return "yes", BY_AGENT
    return "", ""


def _answered(verdicts: list[Verdict], answers: Mapping[str, str]) -> list[Verdict]:
    """What the images showed; T1s that all look alike and all have the agent noted were all taken after it."""
    t1s = [v for v in verdicts if answers.get(v.header.uid) in ("t1", "t1ce")]
    alike = len(t1s) > 1 and all(v.by_agent and answers[v.header.uid] == "t1" for v in t1s)
    after = {v.header.uid for v in t1s} if alike else ()
    return [
        replace(v, by_agent=False, reason=f"{v.reason}, and all T1 look alike") if v.header.uid in after else told
        for v, told in ((v, _by_answer(v, answers)) for v in verdicts)
    ]


def _by_answer(verdict: Verdict, answers: Mapping[str, str]) -> Verdict:
    uid = verdict.header.uid
    if not verdict.what or uid not in answers:
        return verdict
    sequence = answers[uid]
    if not sequence:
        return replace(verdict, what="", reason="headers do not say what it shows, and the image does not tell")
    contrast = {"t1": "no", "t1ce": "yes"}.get(sequence, "")
    reason = f"the image itself looks like {SPOKEN[sequence]}; headers do not say ({verdict.reason})"
    what = "t1" if sequence == "t1ce" else sequence
    return replace(verdict, what=what, contrast=contrast, reason=reason, by_agent=False)


def _settle_contrast(verdicts: list[Verdict]) -> list[Verdict]:
    """Split what is T1-weighted into T1 and T1ce, as far as headers tell; the agent stays in the patient."""
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
    """Pass over ContrastBolusAgent where it was entered for the whole exam: then it tells no series from another."""
    t1s = [v for v in verdicts if v.what == "t1"]
    everywhere = len(t1s) > 1 and all(v.contrast == "yes" for v in t1s)
    if not everywhere and not any(v.contrast == "no" and v.header.contrast_agent for v in t1s):
        return verdicts
    says = "ContrastBolusAgent tells nothing, being set for the whole exam"
    return [
        replace(v, contrast="", by_agent=False, reason=v.reason.replace(BY_AGENT, says)) if v.by_agent else v
        for v in verdicts
    ]


def _ask(verdicts: list[Verdict]) -> tuple[list[Verdict], list[Question]]:
    """Find what only the image can tell."""
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
