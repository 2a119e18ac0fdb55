"""Reading findings out of a report by rules: what it states, what it denies, and what it leaves open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .details import CYST, count_of_foci, enhancement_pattern, extent, necrosis_share
from .findings import LOBES
from .sentences import split_sentences
from .sizes import Measurement, merge_sizes, read_sizes

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
    r"\bmass[\s-]effect|\bmidline (?:shift|displacement|deviation)|\bcompress(?:ion|ed|es|ive)\b"
    r"|\bventric\w+[^.;,]{0,40}\b(?:narrowed|deformed|displaced|flattened|effaced)"
    r"|\b(?:deform|displac|narrow|efface|flatten)(?:s|es|ing|ation|ment)?\b[^.;,]{0,30}\bventric"
    r"|\b(?:presses|pushes)\b[^.;,]{0,20}\bventric|\b(?:uncompressed|undeformed)\b",
    re.IGNORECASE,
)

_STATES = {"necrosis": NECROSIS, "oedema": OEDEMA, "mass_effect": MASS_EFFECT, "cyst": CYST}
_DETAILS = ("enhancement_pattern", "oedema_extent", "mass_effect_extent", "necrosis_share", "multiple", "foci")

# A lesion on the left may well compress the right ventricle.
_VENTRICLE = re.compile(r"\bventric|\bmass[\s-]effect", re.IGNORECASE)
# A side that something is shifted to, or on which something is compressed or was operated on, is not the lesion's:
# "shift to the right", "compression of the right", "5 mm to the right"; but "compression by a mass on the right" is.
_LESION = r"mass(?:es)?(?![\s-]effect)|tumou?rs?|lesions?|neoplasms?|\w*gliomas?|\w*blastomas?|\w*cytomas?"
_CAUSE = rf"by|due|because|caus\w*|account|owing|results?|resulting|and|with|in|within|{_LESION}"
_MOVED_BEFORE = re.compile(
    r"\b(?:(?:shift|displac|deviat|herniat|push|compress|effac|narrow|flatten|deform|craniotom|craniectom)\w*"
    rf"|press(?:es|ing)|mass[\s-]effect(?!\sof\b))\b(?:(?!\b(?:{_CAUSE})\b)[^.;:,])*$"
    r"|\d\s*(?:mm|cm)\sto(?:wards?)?\s(?:the\s)?$|\bventric\w*\s(?:on|at)\sthe\s$",
    re.IGNORECASE,
)
# "rightward shift", "left-to-right midline shift", "right frontal craniotomy".
_ADJECTIVE = (
    r"midline|mild|slight|minor|moderate|marked|severe|subfalcine|uncal|\w*frontal|\w*temporal|\w*parietal|\w*occipital|"
    r"pterional|cerebral"
)
_MOVED_AFTER = re.compile(
    rf"^(?:wards?)?(?:[\s-]sided|[\s-]to[\s-](?:the[\s-])?(?:left|right))?(?:[\s-](?:{_ADJECTIVE})){{0,3}}"
    r"\s(?:shift|displacement|deviation|compression|herniation|craniotom|craniectom|mass[\s-]effect)",
    re.IGNORECASE,
)
_OF_VENTRICLE = re.compile(
    r"^(?:[\s-]sided)?(?:\s(?:lateral|frontal|temporal|occipital))?\s(?:ventric|horns?\b)", re.IGNORECASE
)
_AT_VENTRICLE = re.compile(
    r"\b(?:in|into|within|inside|near|along|around|beside|adjacent to|next to|abut\w*|lining)\s(?:the\s)?$",
    re.IGNORECASE,
)
_OF_LESION = re.compile(
    r"^(?:[\s-]sided)?(?:\s(?!(?:by|from|for|of|on|at|after|with|and|due|to|in|is|are|caus\w*|secondary)\b)[\w-]+){0,4}?"
    rf"\s(?:{_LESION})\b",
    re.IGNORECASE,
)
# "The midline is central", "midline not shifted".
_MIDLINE_STATE = re.compile(
    r"^(?:\s*[:=]|\s+(?:(?:is|was|appears|remains|seems)\b|not\b|central|cent(?:re|er)ed|shifted|displaced|deviated))",
    re.IGNORECASE,
)
_UNCROSSED = re.compile(r"\b(?:not|no|without|never)\b[^.;,]{0,30}\bcross\w*(?:\sof)?\sthe\s$", re.IGNORECASE)
# What denies or spares a finding stands at most this many characters away: keeps long sentences cheap.
_NEAR = 300

_CUE = re.compile(
    r"\b(?:no|not|without|absen(?:ce|t)|lack(?:s|ing)?|free of|neither|nor|never|devoid of|negative for|fails? to|"
    r"failed to|cannot|denies|excludes?|rather than)\b(?! only\b)",
    re.IGNORECASE,
)
# What ends the reach of a cue that stands before a finding.
_SCOPE_END = re.compile(r"[;:.]|\b(?:but|however|although|though|while|whereas|except|apart from)\b", re.IGNORECASE)
_COLON = re.compile(r"\s*:")
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
    denied elsewhere ("no enhancement of the cyst"). Cues count within 300 characters.

    Returns:
        ``side``: of the lesion: "left", "right", "bilateral" (both are named, or the word is) or "midline". What is
        shifted, compressed or was operated on has no say in it, and sentences about the ventricles only where no
        other names a side.
        ``sides``: all sides named, of whatever, a tuple of these.
        ``lobes``: the lobes named, a tuple from ``findings.LOBES`` in order of first mention.
        ``enhancement``: "present" or "absent".
        ``necrosis``, ``oedema``, ``mass_effect``, ``cyst``: ``True`` or ``False``.
        ``enhancement_pattern``: one of ``findings.ENHANCEMENTS``, or "rim" where its thickness is left open.
        ``oedema_extent``: one of ``findings.OEDEMAS``; ``mass_effect_extent``: one of ``findings.MASS_EFFECTS``.
        ``necrosis_share``: of the core, 0 to 1.
        ``multiple``: ``True`` for several lesions, ``False`` for a single one; ``foci``: their number.
        ``sizes``: of parts in ``sizes.SIZED_PARTS``: a dict with ``mm`` (one to three diameters, longest first, or
        none) and ``ml`` (or ``None``) for each.
    """
    sides: dict[str, None] = {}
    lesion_sides: set[str] = set()
    beside_ventricle: set[str] = set()
    lobes: dict[str, None] = {}
    stated: dict[str, set[bool]] = {name: set() for name in ("enhancement", *_STATES)}
    details: dict[str, dict[Any, None]] = {}
    sizes: list[tuple[str, Measurement]] = []

    def note(name: str, value: Any) -> None:
        if value is not None:
            details.setdefault(name, {})[value] = None

    for sentence in split_sentences(text):
        of_lesion = beside_ventricle if _VENTRICLE.search(sentence) else lesion_sides
        for name, pattern in (("left", _LEFT), ("right", _RIGHT), ("bilateral", _BOTH), ("midline", _MIDLINE)):
            for match in pattern.finditer(sentence):
                if not _spared(sentence, match):
                    sides[name] = None
                    if not _moved(sentence, match, name):
                        of_lesion.add(name)
        found = [
            (m.start(), name) for name, p in _LOBES.items() for m in p.finditer(sentence) if not _spared(sentence, m)
        ]
        lobes.update((name, None) for _, name in sorted(found))
        for span, polarity in enhancement_mentions(sentence):
            stated["enhancement"].add(polarity)
            if polarity:
                note("enhancement_pattern", enhancement_pattern(sentence, *span))
        for name, pattern in _STATES.items():
            for match in pattern.finditer(sentence):
                stated[name].add(polarity := not _denied(sentence, match))
                if polarity and name in ("oedema", "mass_effect"):
                    note(f"{name}_extent", extent(sentence, *match.span()))
                elif polarity and name == "necrosis":
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
        "side": _side(lesion_sides or beside_ventricle),
        "sides": tuple(sides) or None,
        "lobes": tuple(lobes) or None,
        "enhancement": {True: "present", False: "absent", None: None}[states.pop("enhancement")],
        **states,
        **{name: _told(name, list(details.get(name, ()))) for name in _DETAILS},
        "sizes": merge_sizes(sizes),
    }


def _told(name: str, values: list[Any]) -> Any:
    """What counts where a report says several things: the first, the most telling pattern, and several foci."""
    if name == "enhancement_pattern" and "rim" in values and len(values) > 1:
        values = [value for value in values if value != "rim"]
    if name in ("multiple", "foci"):
        return max(values, default=None)
    return values[0] if values else None


def enhancement_mentions(sentence: str) -> Iterator[tuple[tuple[int, int], bool]]:
    """Yield where a sentence speaks of enhancement, and whether it affirms it; "non-enhancing" denies it."""
    taken = bytearray(len(sentence))  # 1 where a character is spoken for
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
            continue  # a heading, and what follows it says which
        yield match.span(), not _denied(sentence, match)


def _side(sides: set[str]) -> str | None:
    if "bilateral" in sides or {"left", "right"} <= sides:
        return "bilateral"
    for side in ("left", "right", "midline"):
        if side in sides:
            return side
    return None


def _near(sentence: str, match: re.Match[str]) -> tuple[str, str]:
    """What stands before and after a match, without cutting a word."""
    start, end = match.start() - _NEAR, match.end() + _NEAR
    before, after = sentence[max(0, start) : match.start()], sentence[match.end() : end]
    return before.partition(" ")[2] if start > 0 else before, after.rpartition(" ")[0] if end < len(sentence) else after


def _spared(sentence: str, match: re.Match[str]) -> bool:
    before, after = _near(sentence, match)
    return bool(_SPARED_AFTER.match(after) or _SPARED_BEFORE.search(before))


def _moved(sentence: str, match: re.Match[str], side: str) -> bool:
    """Whether a side is that of a shift, a compression or an operation, and not of the lesion."""
    before, after = _near(sentence, match)
    if side == "midline" and (_MIDLINE_STATE.match(after) or _UNCROSSED.search(before)):
        return True
    if _OF_LESION.match(after):
        return False
    if _OF_VENTRICLE.match(after) and not _AT_VENTRICLE.search(before):
        return True
    return bool(_MOVED_AFTER.match(after) or _MOVED_BEFORE.search(before))


def _denied(sentence: str, match: re.Match[str]) -> bool:
    if match.group().lower().startswith("un"):  # "uncompressed"
        return True
    before, after = _near(sentence, match)
    before = _SCOPE_END.split(before)[-1]
    # A comma ends the reach, too, unless a list goes on ("no necrosis, oedema or enhancement").
    if _COMMA.search(before + match.group() + after.split(",")[0]):
        before = before.rsplit(",", 1)[-1]
    return bool(_CUE.search(before)) or bool(_DENIED_AFTER.match(after))
