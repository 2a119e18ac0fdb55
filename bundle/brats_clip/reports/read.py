"""Reading findings out of a report by rules: what it states, what it denies, and what it leaves open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .findings import LOBES
from .sentences import split_sentences

_LOBES = {
    "frontal": r"\bfront(?:al(?!\s+horns?\b)|o[- ]?(?=tempor|pariet|occipit|insul|basal|cent))",
    "parietal": r"pariet(?:al|o[- ]?(?=tempor|occipit|front|insul))",
    "temporal": r"tempor(?:al(?!\s+horns?\b)|o[- ]?(?=pariet|occipit|insul|front|basal|mesial))",
    "occipital": r"occipit(?:al(?!\s+horns?\b)|o[- ]?(?=pariet|tempor|front))",
    "insular": r"\binsul(?:a|ar|ae)\b|(?<=o)insular\b",
    "deep": r"\bbasal gangli|\bthalam|\bputamen|\bcaudate|\bpallid|\bstriat|\blentiform|\bdeep gr[ae]y",
    "cerebellum": r"\bcerebell",
    "brainstem": r"\b(?:brain[- ]?stem|hind-?brain)\b|\bpons\b|\bpontine\b|\bmidbrain\b|\bmesenceph|\bmedulla\b",
}
_LOBES = {name: re.compile(_LOBES[name], re.IGNORECASE) for name in LOBES}
_LEFT = re.compile(r"\b(?:left|lt\.)(?![a-z])|\bleft(?=wards?\b)", re.IGNORECASE)
_RIGHT = re.compile(r"\b(?:right|rt\.)(?![a-z])|\bright(?=wards?\b)", re.IGNORECASE)
_BOTH = re.compile(
    r"\bbilateral(?:ly)?\b|\b(?:both|either) (?:sides?|(?:cerebral )?hemispheres?|[a-z-]+ lobes)\b", re.IGNORECASE
)
_MIDLINE = re.compile(r"\bmidline\b(?!\s+(?:shift|structures?|displacement|deviation))", re.IGNORECASE)
# A side or a lobe that is named in order to say that it is well.
_SPARED_AFTER = re.compile(
    r"^[^.;]*?\b(?:(?:is|are|was|were|remains?|appears?|looks?)\s+(?:\w+ly\s+)?"
    r"(?:normal|spared|unaffected|unremarkable|intact|free|preserved|uninvolved|not (?:involved|affected))"
    r"|without (?:abnormalit|lesion))",
    re.IGNORECASE,
)
_SPARED_BEFORE = re.compile(
    r"\b(?:spar(?:es|ing|ed)|no (?:involvement|abnormality|lesion|extension)|not (?:involve|affect|reach|extend)\w*"
    r"|without (?:involvement|extension)|free)\b[^.;,]*$",
    re.IGNORECASE,
)

# Names of images, and other words that contain a finding's name and state nothing.
NEUTRAL_ENHANCEMENT = re.compile(
    r"\b(?:contrast[- ]|gadolinium[- ])?enhanced[- ](?:t1\w*|images?|imaging|sequences?|series|mri?|scans?)"
    r"|\bun-?enhanced\b|\b(?:no )?(?:other|further|additional) enhanc\w+"
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
    r"\bmass effect|\bmidline (?:shift|displacement|deviation)|\bcompress(?:ion|ed|es|ive)\b"
    r"|\bventric\w+[^.;,]{0,40}\b(?:narrowed|deformed|displaced|flattened|effaced)"
    r"|\b(?:deform|displac|narrow|efface|flatten)(?:s|es|ing|ation|ment)?\b[^.;,]{0,30}\bventric"
    r"|\b(?:presses|pushes)\b[^.;,]{0,20}\bventric|\b(?:uncompressed|undeformed)\b",
    re.IGNORECASE,
)

# A lesion on the left may well compress the right ventricle.
_VENTRICLE = re.compile(r"\bventric|\bmass effect", re.IGNORECASE)

_CUE = re.compile(
    r"\b(?:no|not|without|absen(?:ce|t)|lack(?:s|ing)?|free of|neither|nor|never|devoid of|negative for|fails? to|"
    r"failed to|cannot|denies|excludes?|rather than)\b(?! only\b)",
    re.IGNORECASE,
)
# What ends the reach of a cue that stands before a finding.
_SCOPE_END = re.compile(r"[;:.]|\b(?:but|however|although|though|while|whereas|except|apart from)\b", re.IGNORECASE)
_COMMA = re.compile(r",(?![^,;]*\b(?:or|nor)\b)")
_NOUN_AFTER = (
    "pattern|extent|effect|part|component|portion|zone|volume|uptake|areas?|cent(?:re|er)|core|cavity|change|lesion|"
    "tissue"
)
_DEGREE = "severe|marked|extensive|pronounced|prominent|significant|large|clear|full|complete"
# What denies a finding from behind: "<finding> [part] [in the left lobe] is not ...", "<finding>: none". But "is not
# severe" does not deny it.
_DENIED_AFTER = re.compile(
    rf"^[\w-]*(?:\s+(?:{_NOUN_AFTER}|of (?:the )?[\w-]+))*(?:\s+(?:in|within|at|around|of|by|for)\s+[^,;:.]{{0,80}}?)?"
    r"(?:\s*[:=]\s*(?:none|no\b|nil|absent|negative|not\b|0\b)"
    r"|\s+(?:(?:is|are|was|were|appears?|can|could|has|have|had|be|been)\s+)*"
    rf"(?:not\b(?! (?:\w+ly )?(?:{_DEGREE})\b)|cannot\b|absent\b|nil\b|none\b|lacking\b|excluded\b|missing\b|no\b))",
    re.IGNORECASE,
)


def read_findings(text: str) -> dict[str, Any]:
    """Read what a report states; a finding it does not mention is ``None``.

    Rules in the manner of NegEx (Chapman 2001): a finding is denied by a cue before it in the same clause ("no",
    "without") or after it ("is absent", ": none"). A finding that is affirmed once counts as present, whatever is
    denied elsewhere ("no enhancement of the cyst").

    Returns:
        ``side``: of the lesion: "left", "right", "bilateral" (both are named, or the word is) or "midline". Sentences
        about the ventricles only count where no other names a side.
        ``sides``: all sides named, a tuple of these.
        ``lobes``: the lobes named, a tuple from ``findings.LOBES`` in order of first mention.
        ``enhancement``: "present" or "absent".
        ``necrosis``, ``oedema``, ``mass_effect``: ``True`` or ``False``.
    """
    sides: dict[str, None] = {}
    lesion_sides: set[str] = set()
    lobes: dict[str, None] = {}
    stated: dict[str, set[bool]] = {"enhancement": set(), "necrosis": set(), "oedema": set(), "mass_effect": set()}
    for sentence in split_sentences(text):
        for name, pattern in (("left", _LEFT), ("right", _RIGHT), ("bilateral", _BOTH), ("midline", _MIDLINE)):
            if any(not _spared(sentence, match) for match in pattern.finditer(sentence)):
                sides[name] = None
                if not _VENTRICLE.search(sentence):
                    lesion_sides.add(name)
        found = [
            (m.start(), name) for name, p in _LOBES.items() for m in p.finditer(sentence) if not _spared(sentence, m)
        ]
        lobes.update((name, None) for _, name in sorted(found))
        stated["enhancement"].update(polarity for _, polarity in enhancement_mentions(sentence))
        for name, pattern in (("necrosis", NECROSIS), ("oedema", OEDEMA), ("mass_effect", MASS_EFFECT)):
            stated[name].update(not _denied(sentence, match) for match in pattern.finditer(sentence))
    states = {name: any(values) if values else None for name, values in stated.items()}
    return {
        "side": _side(lesion_sides or set(sides)),
        "sides": tuple(sides) or None,
        "lobes": tuple(lobes) or None,
        "enhancement": {True: "present", False: "absent", None: None}[states.pop("enhancement")],
        **states,
    }


def enhancement_mentions(sentence: str) -> Iterator[tuple[tuple[int, int], bool]]:
    """Yield where a sentence speaks of enhancement, and whether it affirms it; "non-enhancing" denies it."""
    taken = [match.span() for match in NEUTRAL_ENHANCEMENT.finditer(sentence)]
    for match in NON_ENHANCING.finditer(sentence):
        taken.append(match.span())
        yield match.span(), False
    matches = list(ENHANCEMENT.finditer(sentence))
    for match in matches:
        if any(start < match.end() and match.start() < end for start, end in taken):
            continue
        if sentence[match.end() :].lstrip().startswith(":") and (match is not matches[-1] or taken):
            continue  # a heading, and what follows it says which
        yield match.span(), not _denied(sentence, match)


def _side(sides: set[str]) -> str | None:
    if "bilateral" in sides or {"left", "right"} <= sides:
        return "bilateral"
    for side in ("left", "right", "midline"):
        if side in sides:
            return side
    return None


def _spared(sentence: str, match: re.Match[str]) -> bool:
    return bool(_SPARED_AFTER.match(sentence[match.end() :]) or _SPARED_BEFORE.search(sentence[: match.start()]))


def _denied(sentence: str, match: re.Match[str]) -> bool:
    if match.group().lower().startswith("un"):  # "uncompressed"
        return True
    before = _SCOPE_END.split(sentence[: match.start()])[-1]
    # A comma ends the reach, too, unless a list goes on ("no necrosis, oedema or enhancement").
    if _COMMA.search(before + match.group() + sentence[match.end() :].split(",")[0]):
        before = before.rsplit(",", 1)[-1]
    return bool(_CUE.search(before)) or bool(_DENIED_AFTER.match(sentence[match.end() :]))
