"""Split a report into sentences, whatever its layout."""

from __future__ import annotations

import re

# Abbreviations: a full stop after _NEVER ends no sentence, one after _SELDOM does if a capital follows.
_NEVER = r"approx|ca|cf|vs|e\.g|i\.e|fig|figs|dr|prof|st|seq|est|avg"
_SELDOM = r"etc|resp|incl|max|min|diam|vol|ant|post|sup|inf|lat|med|temp|lt|rt|bilat|contr"
_NEVER_ENDS = re.compile(rf"(?:^|[^\w.])(?:{_NEVER})\.$", re.IGNORECASE)
_SELDOM_ENDS = re.compile(rf"(?:^|[^\w.])(?:{_SELDOM})\.$", re.IGNORECASE)
# "1. ", "2) ", "(3) ", "a) ", "- ", "* ", "• " at the start of a line.
_MARKER = re.compile(r"\s*(?:\(?\d{1,2}[.)](?!\d)|\(?[a-hA-H]\)|[-*•\u2013])\s+")
# An item number inside a line ("... lobe. 2. No oedema.", "... lobe; 2) no oedema").
_INLINE_MARKER = re.compile(r"\s*\(?\d{1,2}[.)]\s+(?=[A-Z])")
_BREAK = re.compile(r"\n+|[.!?]+[\"')\]]*(?=\s|$)")
_BREAK_OR_SEMICOLON = re.compile(_BREAK.pattern + r"|;(?=\s|$)")


def sentence_spans(text: str, semicolons: bool = False) -> list[tuple[int, int]]:
    """Like ``split_sentences``, but return the start and end of each sentence in ``text``."""
    spans: list[tuple[int, int]] = []
    start = 0

    def close(end: int) -> None:
        begin, marker = start, _MARKER.match(text, start, end)
        if marker is None and spans:
            marker = _INLINE_MARKER.match(text, start, end)
        if marker:
            begin = marker.end()
        piece = text[begin:end]
        stripped = piece.strip()
        if re.search(r"\w", stripped):
            begin += len(piece) - len(piece.lstrip())
            spans.append((begin, begin + len(stripped)))

    for match in (_BREAK_OR_SEMICOLON if semicolons else _BREAK).finditer(text):
        # A few characters before a break and a few words after it are enough to classify it.
        before, after = text[max(start, match.end() - 40) : match.end()], text[match.end() : match.end() + 200]
        if match.group()[0] == "\n":
            if _runs_on(text[start : match.start()], match.group(), after):
                continue
            close(match.start())
        elif (
            (_NEVER_ENDS.search(before) and after.strip())
            or (_SELDOM_ENDS.search(before) and re.match(r"\s*[a-z0-9]", after))
            or re.fullmatch(r"\s*\(?\d{1,2}\.", text[start : match.end()])  # the dot of an item number
        ):
            continue
        else:
            close(match.start() if match.group() == ";" else match.end())
        start = match.end()
    close(len(text))
    return spans


def _runs_on(line: str, newlines: str, after: str) -> bool:
    """Whether a line break only wraps a sentence: no full stop before it, lower case and no "name:" after it."""
    if len(newlines) > 1 or not re.fullmatch(r"[\w,)]", line.rstrip()[-1:]):
        return False
    return bool(re.match(r"[ \t]*[a-z]", after)) and not re.match(r"[ \t]*[\w ()/-]{1,40}:", after)


def split_sentences(text: str, semicolons: bool = False) -> list[str]:
    """Split a report into sentences, stripped, without item numbers and bullets; none for "".

    A line break separates sentences unless the sentence clearly continues (the next line starts in lower case).
    Decimals ("3.5 cm") and abbreviations ("approx. 4 cm") do not end a sentence.

    Args:
        text: the report.
        semicolons: whether "; " separates sentences, too.
    """
    return [text[start:end] for start, end in sentence_spans(text, semicolons)]
