"""Reverse what a report states about enhancement."""

from __future__ import annotations

import re

import numpy as np

from .places import noun_place, pick
from .reading import MASS_EFFECT, NECROSIS, NON_ENHANCING, OEDEMA, enhancement_mentions, read_findings
from .sentences import sentence_spans
from .writing import fill_choices

_PRESENT = (
    "After contrast, [marked|strong|avid] [rim|nodular|patchy] enhancement is [seen|present]{place}.",
    "[Strong|Thick rim-like|Marked] contrast enhancement is [present|seen|noted]{place}.",
    "T1ce shows [a strongly enhancing|an avidly enhancing] [tumour|component]{place}.",
    "There is [marked|intense|strong] enhancement{place}.",
)
_ABSENT = (
    "There is no [abnormal |]enhancement{place}.",
    "No contrast enhancement is [seen|present|noted]{place}.",
    "T1ce shows no enhancing [tumour|component]{place}.",
    "Contrast enhancement is absent{place}.",
)
# Borders of the clause to rewrite if a sentence states more than enhancement.
_BORDER = re.compile(r"[,;:]|\b(?:and|but|while|with|without|that|which)\b", re.IGNORECASE)
_PREPOSITION = re.compile(r"\b(?:with|without|that|which)$", re.IGNORECASE)
_SIGNAL = re.compile(r"\bsignals?\b|intens", re.IGNORECASE)


def negate_enhancement(text: str, rng: np.random.Generator) -> str:
    """Make a report deny the enhancement that it affirms, or affirm the enhancement that it denies.

    A sentence about enhancement alone is replaced by one that states the opposite for the same place. If a sentence
    also states other findings, only the clause about enhancement changes. A report that does not mention enhancement
    is returned unchanged. Applying the function twice restores the statement, but not the wording.
    """
    state = read_findings(text)["enhancement"]
    if state is None:
        return text
    affirm = state == "absent"
    for start, end in reversed(sentence_spans(text)):
        sentence = text[start:end]
        mentions = [span for span, polarity in enhancement_mentions(sentence) if polarity != affirm]
        if not mentions:
            continue
        if affirm and all(NON_ENHANCING.fullmatch(sentence, *span) for span in mentions):
            new = NON_ENHANCING.sub(lambda match: "Enhancing" if match.group()[0].isupper() else "enhancing", sentence)
        else:
            new = _rewrite_clause(sentence, mentions, affirm) or _opposite(sentence, affirm, rng)
        text = text[:start] + new + text[end:]
    return text


def _opposite(sentence: str, affirm: bool, rng: np.random.Generator) -> str:
    stated = read_findings(sentence)
    place = ""
    if stated["side"] and stated["lobes"]:
        place = f" in {noun_place(stated['side'], stated['lobes'], rng, whole=True)}"
    elif stated["side"]:
        place = {"bilateral": " on both sides", "midline": " in the midline"}.get(
            stated["side"], f" in the {stated['side']} hemisphere"
        )
    elif stated["lobes"]:
        place = f" ({', '.join(stated['lobes'])})"
    new = fill_choices(pick(rng, _PRESENT if affirm else _ABSENT), rng).replace("{place}", place)
    return new if sentence.endswith(".") else new.rstrip(".")


def _rewrite_clause(sentence: str, mentions: list[tuple[int, int]], affirm: bool) -> str | None:
    """Rewrite only the clauses about enhancement; ``None`` if the whole sentence is about it."""
    more = any(pattern.search(sentence) for pattern in (NECROSIS, OEDEMA, MASS_EFFECT, _SIGNAL))
    new = "strong enhancement" if affirm else "no enhancement"
    for start, end in sorted(mentions, reverse=True):
        left = max((m.end() for m in _BORDER.finditer(sentence, 0, start)), default=0)
        head = sentence[:left]
        preposition = _PREPOSITION.search(head)
        if not more and not preposition:
            return None
        right = min((m.start() for m in _BORDER.finditer(sentence, end)), default=len(sentence.rstrip(".")))
        if preposition:
            head = f"{head[: preposition.start()]}with"
        clause = f"{head} {new}" if head else new.capitalize()
        tail = sentence[right:]
        sentence = f"{clause} {tail}" if tail[:1].isalpha() else clause + tail
    return sentence
