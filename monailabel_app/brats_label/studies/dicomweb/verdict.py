"""Classify one series by its own headers, with the rules in ``series_rules``."""

from __future__ import annotations

from dataclasses import dataclass

from brats_clip.cases.contrast_words import ContrastWords, contrast_of

from .series import ENHANCED_MR_STORAGE, LEGACY_ENHANCED_MR_STORAGE, SeriesHeader
from .series_rules import (
    HEAD_WORDS,
    LEFT_OUT_IMAGE_TYPES,
    LEFT_OUT_WORDS,
    MIN_SLICES,
    OTHER_PARTS,
    REFORMAT_WORD,
    REFORMATS,
    TIMINGS,
    WEIGHTING_WORDS,
    Timing,
    normalise,
)

NOTHING = ContrastWords()
BY_AGENT = "ContrastBolusAgent is set"


@dataclass(frozen=True)
class Verdict:
    """The classification of one series by its own headers.

    Attributes:
        what: "t1", "t1ce", "t2", "flair", "t2 or flair", "unknown"; or "" if it is left out.
        reason: for users.
        contrast: "yes", "no", or "" if the headers do not say.
        by_agent: whether only ContrastBolusAgent says "yes".
        said: what the text that identifies the sequence says about contrast agent.
    """

    header: SeriesHeader
    what: str
    reason: str
    contrast: str = ""
    by_agent: bool = False
    said: ContrastWords = NOTHING


def judge(header: SeriesHeader) -> Verdict:
    """Classify one series without looking at the others."""
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
        what, reason, text = timed, why, header.description
    said = contrast_of(text)
    contrast, why = _contrast(header, said)
    reason = f"{reason}; {why}" if why and what == "t1" else reason
    return Verdict(header, what, reason, contrast, why == BY_AGENT, said)


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
    """Return the weighting by TR, TE and TI, and a text with these values."""
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


def _contrast(header: SeriesHeader, said: ContrastWords) -> tuple[str, str]:
    """Return whether contrast agent was given, and the source. The description takes precedence over the tag."""
    if said.answer:
        return said.answer, f"'{said.words}' says {'' if said.answer == 'yes' else 'no '}contrast agent"
    return ("yes", BY_AGENT) if header.contrast_agent else ("", "")
