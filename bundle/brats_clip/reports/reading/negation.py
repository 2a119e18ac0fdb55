"""Decide whether a sentence affirms or denies a finding, in the manner of NegEx and ConText."""

from __future__ import annotations

import re

# A negation cue counts within this many characters of a finding, so that long sentences are fast.
NEAR = 300

_CUE = re.compile(
    r"\b(?:(?P<noun>no|without|absen(?:ce|t)|lack(?:s|ing)?|free of|neither|nor|devoid of|negative for"
    r"|excludes?|(?:resolution|disappearance) of)"
    r"|not|never|fails? to|failed to|cannot|denies|rather than)\b(?! only\b)",
    re.IGNORECASE,
)
# These end the scope of a cue before a finding.
_SCOPE_END = re.compile(
    r"[;:.]|\b(?:but|however|although|though|while|whereas|except|apart from|despite|there (?:is|are)"
    r"|and (?:shows?|has|with))\b",
    re.IGNORECASE,
)
# "No growth of the enhancing part" denies the growth: a noun with a preposition takes the negation. These do not.
_TRANSPARENT = (
    "evidence|signs?|areas?|foc(?:us|i)|regions?|zones?|parts?|components?|portions?|kind|form|degree|traces?|hints?|indications?|"
    "suggestion|suggestive|indicative|presence|appearance|rim|ring|nodules?|patch(?:es)?|development|uptake|amount|sort|type|any|proof|"
    "and|or|absence|lack|free|devoid|none|characteristics|features|demonstration|visualization"
)
_TAKEN = re.compile(
    rf"\b(?!(?:{_TRANSPARENT})\b)[\w-]+\s+(?:of|in|about|that|since|from|on|within|compared|around|by)\b"
    r"|\b(?:change|growth|progression|increase|decrease|doubt|question)\b",
    re.IGNORECASE,
)
_ANOTHER = re.compile(r"^\s*(?:[\w-]+\s+){0,2}?(?:new|other|further|additional|second|more)\b", re.IGNORECASE)
_ITEM = re.compile(r"\s*(?:[\w/-]+\s*){1,5}")
_LAST_ITEM = re.compile(r"\s*(?:[\w/-]+\s+){0,4}?(?:or|nor)\b", re.IGNORECASE)
_NOUN_AFTER = (
    "pattern|extent|effect|part|component|portion|zone|volume|uptake|areas?|cent(?:re|er)|core|cavity|change|lesion|"
    "tissue|rim|nodule|foc(?:us|i)"
)
_DEGREE = (
    "changed|increased|decreased|progressed|grown|worsened|different|only|severe|marked|extensive|pronounced|"
    "prominent|significant|large|clear|full|complete"
)
_SEEN_BEFORE = (
    r"(?:\s+(?:(?:that|which)\s+was\s+)?(?:seen|noted|described|present|known)\s+(?:previously|before"
    r"|earlier|on\s[^,;:.]{0,40}?))?"
)
# Negation cues after a finding: "<finding> [part] [in the left lobe] is not ...", "<finding>: none". "Is not severe"
# and "was not seen before" do not deny it.
_DENIED_AFTER = re.compile(
    rf"^[\w-]*(?:\s+(?:{_NOUN_AFTER}|of (?:the )?[\w-]+))*{_SEEN_BEFORE}(?:\s+(?:in|within|at|around|of"
    rf"|by|for)\s+[^,;:.]{{0,80}}?)?"
    r"(?:\s*[:=]\s*(?:none|no\b|nil|absent|negative|not\b|0\b|n\b(?![/\w]))"
    r"|\s+(?:(?:is|are|was|were|appears?|can|could|has|have|had|be|been|now|since|again|\w+ly)\s+)*"
    rf"(?:not\b(?! (?:\w+ly )?(?:{_DEGREE})\b)|cannot\b|absent\b|nil\b|none\b|lacking\b|excluded\b|missing\b|no\b"
    r"|resolved\b|regressed completely|disappeared\b|vanished\b|gone\b)(?![^.;,]{0,25}\b(?:before"
    r"|previously|on (?:the )?prior)\b))",
    re.IGNORECASE,
)
# "Oedema and mass effect are absent."
_ALL_DENIED_AFTER = re.compile(
    r"^\w*(?:\s*,\s*[\w-]+(?:\s[\w-]+)?){0,4}\s+(?:and|or)\s+[\w-]+(?:\s[\w-]+)?\s+(?:are|were)\s+(?:\w+ly\s+)?"
    r"(?:not\s+(?:seen|present|visible|observed|identified|demonstrated|found)|absent)\b",
    re.IGNORECASE,
)
_ASSESSED = r"assess\w*|evaluat\w*|evaluable|determin\w*|judged?|excluded?|ruled? out|comment\w*|applicable|available"
_UNKNOWN_AFTER = re.compile(
    rf"^[^.;]{{0,60}}?\b(?:(?:cannot|can not|could not|can't|may not|not)\s+(?:be\s+)?(?:\w+ly\s+)?(?:{_ASSESSED})\b"
    r"|(?:is|are|remains?)\s+(?:therefore\s+|thus\s+)?(?:unknown|unclear|not known)\b)|^\s*[:=]\s*n/?a\b",
    re.IGNORECASE,
)
_UNKNOWN_BEFORE = re.compile(
    r"\b(?:(?:cannot|can not|could not|unable to|not possible to|no|without|limited)\s+"
    rf"(?:{_ASSESSED}|assessment|evaluation)"
    r"|(?:not (?:clear|certain|known)|unclear|unknown|uncertain)\s+(?:whether|if))"
    r"\b[^.;,]*$",
    re.IGNORECASE,
)


def near(sentence: str, start: int, end: int, reach: int = NEAR) -> tuple[str, str]:
    """Return the text before and after a span, at most ``reach`` characters each and without cutting a word."""
    before, after = sentence[max(0, start - reach) : start], sentence[end : end + reach]
    if start > reach:
        before = before.partition(" ")[2]
    if end + reach < len(sentence):
        after = after.rpartition(" ")[0]
    return before, after


def affirmed(sentence: str, start: int, end: int) -> bool | None:
    """Return whether a sentence affirms the finding at ``start`` to ``end``.

    Returns:
        ``True`` if it is affirmed, ``False`` if it is denied, ``None`` if it is left open: it cannot be assessed, or
        only a new or an additional one is denied.
    """
    if re.match(r"un(?!cus)", sentence[start:end], re.IGNORECASE):  # "uncompressed"
        return False
    before, after = near(sentence, start, end)
    if _UNKNOWN_AFTER.match(after) or _UNKNOWN_BEFORE.search(before):
        return None
    scope = _SCOPE_END.split(before)[-1]
    for cue in reversed(list(_CUE.finditer(scope))):
        between = scope[cue.end() :]
        if not _list_goes_on(between, after):
            break
        if cue["noun"] and _ANOTHER.match(between):
            return None
        if not (cue["noun"] and _TAKEN.search(between)):
            return False
        break
    return not (_DENIED_AFTER.match(after) or _ALL_DENIED_AFTER.match(after))


def _list_goes_on(between: str, after: str) -> bool:
    """Whether a cue applies across the commas after it: a list of short items that ends in "or" ("no A, B or C")."""
    if "," not in between:
        return True
    *items, own = between.split(",")
    if re.match(r"\s*(?:\w+\s+)?(?:or|nor)\b", own):
        return True
    rest = [own + "x" + after.partition(",")[0], *after.split(",")[1:6]]
    if not all(_ITEM.fullmatch(item) for item in items):
        return False
    for item in rest:
        if _LAST_ITEM.match(item):
            return True
        if not _ITEM.fullmatch(item):
            return False
    return False
