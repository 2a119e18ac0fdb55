"""Read findings from a report by rules: whether it affirms them, denies them or leaves them open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..sentences import split_sentences
from .details import CYST, count_of_foci, enhancement_pattern, extent, necrosis_share
from .languages import in_english
from .layout import plain_text, sections_read
from .negation import affirmed
from .sites import Sites
from .sizes import Measurement, merge_sizes, read_sizes

# Names of images, and other phrases that contain the name of a finding but do not state one.
NEUTRAL_ENHANCEMENT = re.compile(
    r"\b(?:contrast[- ]|gadolinium[- ])?enhanced[- ](?:t1\w*|images?|imaging|sequences?|series|mri?|scans?)"
    r"|\bun-?enhanced\b|\b(?:no )?(?:other|further|additional) enhanc\w+|\bpost[- ]?contrast[- ]enhanced\b"
    r"|\benhanced (?:signals?|visibility)\b",
    re.IGNORECASE,
)
NON_ENHANCING = re.compile(r"\b(?:non|un)[- ]?enhancing\b", re.IGNORECASE)
ENHANCEMENT = re.compile(
    r"\benhanc\w+|\b(?:contrast|gadolinium)(?: (?:agent|medium))? (?:uptake|accumulation)"
    r"|\b(?:up)?take(?:s|n|ing)?(?: up| of) (?:of )?(?:contrast|gadolinium)|\bring-enhancing",
    re.IGNORECASE,
)
NECROSIS = re.compile(r"\bnecro(?:sis|tic|ses)\b", re.IGNORECASE)
OEDEMA = re.compile(r"\bo?edema(?:tous)?\b", re.IGNORECASE)
MASS_EFFECT = re.compile(
    r"\bmass[\s-]effect|\bmidline (?:shift|displacement|deviation)|\bcompress(?:ion|ed|es|ive)\b"
    r"|\bventric\w+[^.;,]{0,40}\b(?:narrowed|deformed|displaced|flattened|effaced)"
    r"|\b(?:deform|displac|narrow|efface|flatten)(?:s|es|ing|ation|ment)?\b[^.;,]{0,30}\bventric"
    r"|\b(?:presses|pushes)\b[^.;,]{0,20}\bventric|\b(?:uncompressed|undeformed)\b"
    r"|\beffacement of (?:the )?(?:\w+ )?(?:sulc|cistern)|\bsulcal effacement|\bherniation"
    r"|\b(?:left|right)[\s-]to[\s-](?:the )?(?:left|right) shift|\bsubfalcine\b|\bmidline (?:is |are "
    r"|was |structures )*(?:shifted|displaced|deviated)",
    re.IGNORECASE,
)
_STATES = {"necrosis": NECROSIS, "oedema": OEDEMA, "mass_effect": MASS_EFFECT, "cyst": CYST}
_DETAILS = ("enhancement_pattern", "oedema_extent", "mass_effect_extent", "necrosis_share", "multiple", "foci")
_COLON = re.compile(r"\s*:")


def read_findings(text: str) -> dict[str, Any]:
    """Read what a report states about the tumour; a finding that it does not mention is ``None``.

    The rules follow NegEx (Chapman 2001) and ConText (Harkema 2009): a finding is denied by a cue before it in the
    same clause ("no", "without") or after it ("is absent", ": none"), unless the cue has another target ("no growth
    of the enhancing part"). A finding that is affirmed once counts as present, even if it is denied elsewhere ("no
    enhancement of the cyst"). Cues count within 300 characters. Sections about history, comparison and technique are
    skipped. For sides and lobes, incidental findings and operations are ignored, and former lesions count only if
    nothing else names a place. English is read directly, German, Spanish, French, Italian and Portuguese by a glossary,
    other languages not at all.

    Returns:
        ``side``: of the lesion: "left", "right", "bilateral" (the word or both sides are named) or "midline". Sides of
        shifts, compression and operations do not count; sentences about ventricles count only if no other names one.
        ``sides``: a tuple of all sides named, whatever they refer to.
        ``lobes``: the lobes named, a tuple from ``findings.LOBES`` in order of first mention.
        ``enhancement``: "present" or "absent".
        ``necrosis``, ``oedema``, ``mass_effect``, ``cyst``: ``True`` or ``False``.
        ``enhancement_pattern``: one of ``findings.ENHANCEMENTS``, or "rim" of unknown thickness.
        ``oedema_extent``: one of ``findings.OEDEMAS``; ``mass_effect_extent``: one of ``findings.MASS_EFFECTS``.
        ``necrosis_share``: of the core, 0 to 1.
        ``multiple``: ``True`` for several lesions, ``False`` for a single one; ``foci``: their number.
        ``sizes``: for each stated part of ``sizes.SIZED_PARTS`` a dict with ``mm`` (up to three diameters, longest
        first) and ``ml`` (or ``None``).
    """
    sites = Sites()
    stated: dict[str, set[bool]] = {name: set() for name in ("enhancement", *_STATES)}
    details: dict[str, dict[Any, None]] = {}
    sizes: list[tuple[str, Measurement]] = []

    def note(name: str, value: Any) -> None:
        if value is not None:
            details.setdefault(name, {})[value] = None

    for sentence in split_sentences(english_text(text)):
        sites.add(sentence)
        for span, polarity in enhancement_mentions(sentence):
            stated["enhancement"].add(polarity)
            if polarity:
                note("enhancement_pattern", enhancement_pattern(sentence, *span))
        necrotic = False
        for name, pattern in _STATES.items():
            for match in pattern.finditer(sentence):
                polarity = affirmed(sentence, *match.span())
                if polarity is None:
                    continue
                stated[name].add(polarity)
                if polarity and name in ("oedema", "mass_effect"):
                    note(f"{name}_extent", extent(sentence, *match.span()))
                necrotic |= polarity and name == "necrosis"
        if necrotic:
            note("necrosis_share", necrosis_share(sentence))
        multiple, foci = count_of_foci(sentence)
        note("multiple", multiple)
        note("foci", foci)
        sizes += read_sizes(sentence)
    states = {name: any(values) if values else None for name, values in stated.items()}
    if states["enhancement"] is False:
        details["enhancement_pattern"] = {"none": None}
    for name in ("oedema", "mass_effect"):
        if states[name] is False:
            details[f"{name}_extent"] = {"none": None}
    return {
        "side": sites.side,
        "sides": tuple(sites.sides) or None,
        "lobes": sites.lobes_of_lesion,
        "enhancement": {True: "present", False: "absent", None: None}[states.pop("enhancement")],
        **states,
        **{name: _resolve(name, list(details.get(name, ()))) for name in _DETAILS},
        "sizes": merge_sizes(sizes),
    }


def english_text(report: str) -> str:
    """Return the sections of a report that describe the current images, as plain text in English; "" for none."""
    return sections_read(in_english(plain_text(report)))


def _resolve(name: str, values: list[Any]) -> Any:
    """Resolve several statements: the largest count, a pattern more specific than "rim", otherwise the first."""
    if name == "enhancement_pattern" and "rim" in values and len(values) > 1:
        values = [value for value in values if value != "rim"]
    if name in ("multiple", "foci"):
        return max(values, default=None)
    return values[0] if values else None


def enhancement_mentions(sentence: str) -> Iterator[tuple[tuple[int, int], bool]]:
    """Yield the span of each mention of enhancement, and whether it is affirmed; "non-enhancing" denies it."""
    taken = bytearray(len(sentence))  # 1 where a character belongs to a mention
    for match in NEUTRAL_ENHANCEMENT.finditer(sentence):
        taken[match.start() : match.end()] = b"\1" * len(match.group())
    for match in NON_ENHANCING.finditer(sentence):
        taken[match.start() : match.end()] = b"\1" * len(match.group())
        yield match.span(), False
    matches = list(ENHANCEMENT.finditer(sentence))
    others = 1 in taken
    for match in matches:
        if 1 in taken[match.start() : match.end()]:
            continue
        if _COLON.match(sentence, match.end()) and (match is not matches[-1] or others):
            continue  # a heading: another mention states the polarity
        polarity = affirmed(sentence, *match.span())
        if polarity is not None:
            yield match.span(), polarity
