"""Read the details of findings: pattern and extent, share of necrosis, cysts, number of lesions."""

from __future__ import annotations

import re

_PATTERNS = (
    (
        "rim",
        r"rim|ring|peripher\w*|marginal|margin|wall|walled|shell|border|capsul\w*|annular|circumferential|outer part",
    ),
    ("patchy", r"patch\w*|scattered|spott\w*|speck\w*|heterogen\w*|inhomogen\w*|incomplete|multifocal"),
    ("solid", r"solid\w*|homogen\w*|compact|uniform\w*|throughout|almost completely|nearly all|most of"),
    ("nodular", r"nodul\w*|focal|lump\w*|circumscribed"),
)
_PATTERNS = tuple((name, re.compile(rf"(?<!non-)\b(?:{words})\b", re.IGNORECASE)) for name, words in _PATTERNS)
_THIN = re.compile(
    r"\b(?:thin\w*|fine\w*|delicate|slender|narrow|(?:a few|only) millimet(?:re|er)s)\b(?!-)|\bthin-", re.IGNORECASE
)
_THICK = re.compile(r"\b(?:thick\w*|broad|coarse|bulky|wide)\b", re.IGNORECASE)

_EXTENTS = (
    ("moderate", r"moderate(?:ly)?|medium-grade"),
    ("mild", r"mild(?:ly)?|slight(?:ly)?|limited|minor|minimal(?:ly)?|little|small|trace|lightly|discrete"),
    (
        "marked",
        r"marked(?:ly)?|(?<!moderately )extensive(?:ly)?|pronounced|widespread|severe(?:ly)?|significant(?:ly)?|large"
        r"|massive|strong(?:ly)?|considerabl[ey]|substantial(?:ly)?|prominent(?:ly)?|diffuse(?:ly)?|obvious(?:ly)?"
        r"|notabl[ey]|noticeabl[ey]",
    ),
)
_EXTENTS = tuple((name, re.compile(rf"\b(?:{words})\b", re.IGNORECASE)) for name, words in _EXTENTS)
_OTHER_TOPIC = re.compile(
    r"\b(?:necro\w+|enhanc\w+|mass[\s-]effect|shift|compress\w+|h[ae]+morrhag\w+|o?edema|size|volume)\b",
    re.IGNORECASE,
)
# An adjective before a finding does not apply across these: "a large mass with oedema".
_BORDER = re.compile(rf",|\b(?:is|are|was|with|by|tumou?rs?|mass|lesions?)\b|{_OTHER_TOPIC.pattern}", re.IGNORECASE)
_CLAUSE = re.compile(r"[;.]")
_VERB = re.compile(r":|,|\(|\b(?:is|are|was|appears?|to|remains?|of)\b")

_SHARES = (
    (0.15, r"a small part"),
    (0.33, r"(?:a|one) third"),
    (0.5, r"(?:about |one )?half"),
    (0.67, r"two thirds"),
    (0.72, r"the larger part|most of (?:the|its) (?:\w+ )?core|(?:mostly|largely|predominantly) necrotic"),
    (0.92, r"almost all|nearly all|almost entirely|nearly entirely"),
)
_SHARES = tuple((share, re.compile(rf"\b(?:{words})\b", re.IGNORECASE)) for share, words in _SHARES)
_PERCENT = re.compile(r"\b(\d{1,3})(?:\s*(?:-|\u2013|to)\s*(\d{1,3}))?\s*(?:%|percent|per cent)", re.IGNORECASE)

CYST = re.compile(
    r"(?<!retention )(?<!arachnoid )(?<!pineal )(?<!colloid )(?<!epidermoid )(?<!mucous )\bcyst(?:s|ic)?\b",
    re.IGNORECASE,
)
_WORDS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
}  # fmt: skip
_LESIONS = r"(?:lesions|foci(?!\s+of\b)|masses|tumou?rs|nodules|metastases)"
_COUNTED = re.compile(
    rf"\b(?P<a>{'|'.join(_WORDS)}|\d{{1,2}})\s+(?:(?!(?:mm|cm|ml|cc|of|years?|months?)\b)[\w-]+\s+){{0,5}}?{_LESIONS}\b"
    r"|\b(?:number of (?:foci|lesions)\b[^.;:]{0,60}:|(?:foci|lesion count|separate lesions)\s*:"
    rf"|{_LESIONS}\b[^.;]{{0,80}},)\s*(?P<b>{'|'.join(_WORDS)}|\d{{1,2}})\b(?!\s*(?:mm|cm|ml|cc|[x.,]))",
    re.IGNORECASE,
)
_MULTIPLE = re.compile(
    r"\b(?:multifocal\w*|multicentric\w*"
    rf"|(?:multiple|several|numerous|many|a few)\s+(?:[\w-]+\s+){{0,5}}?{_LESIONS})\b",
    re.IGNORECASE,
)
_SINGLE = re.compile(
    r"\b(?:unifocal|(?:single|solitary|one)\s+(?:(?!separate|of\b)[\w-]+\s+){0,5}?(?:lesion"
    r"|focus(?!\s+of)|mass|tumou?r|metastasis|glioma)(?![\w-]))\b",
    re.IGNORECASE,
)


def enhancement_pattern(sentence: str, start: int, end: int) -> str | None:
    """Return the pattern of the enhancement at ``start`` to ``end``: one of ``findings.ENHANCEMENTS``, or "rim"."""
    near = sentence[max(0, start - 120) : end + 120]
    for name, words in _PATTERNS:
        if words.search(near):
            if name != "rim":
                return name
            return "thin rim" if _THIN.search(near) else "thick rim" if _THICK.search(near) else "rim"
    return None


def extent(sentence: str, start: int, end: int) -> str | None:
    """Return the extent ("mild", "moderate", "marked") of a finding at ``start`` to ``end``: its nearest adjective."""
    before = _CLAUSE.split(sentence[max(0, start - 90) : start])[-1]
    before = before[max((m.end() for m in _BORDER.finditer(before)), default=0) :]
    found = [(-m.end(), name) for name, words in _EXTENTS for m in words.finditer(before)]
    if not found:
        after = _CLAUSE.split(sentence[end : end + 160])[0]
        other = _OTHER_TOPIC.search(after)
        after = after[: other.start() if other else None]
        verb = _VERB.search(after)
        found = [(m.start(), name) for name, words in _EXTENTS for m in words.finditer(after)]
        found = [(at, name) for at, name in found if at <= 1 or (verb and at >= verb.start())]
    return min(found)[1] if found else None


def necrosis_share(sentence: str) -> float | None:
    """Return the necrotic share of the core that a sentence about necrosis states, 0 to 1."""
    if match := _PERCENT.search(sentence):
        values = [float(value) for value in match.groups() if value]
        return min(sum(values) / len(values) / 100, 1.0)
    return next((share for share, words in reversed(_SHARES) if words.search(sentence)), None)


def count_of_foci(sentence: str) -> tuple[bool | None, int | None]:
    """Return whether a sentence states several lesions (``False``: a single one), and how many, if it says so."""
    if match := _COUNTED.search(sentence):
        word = (match["a"] or match["b"]).lower()
        number = _WORDS.get(word) or int(word)
        if number > 1:
            return True, number
    if _MULTIPLE.search(sentence):
        return True, None
    return (False, 1) if _SINGLE.search(sentence) else (None, None)
