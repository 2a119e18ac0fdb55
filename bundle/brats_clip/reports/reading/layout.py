"""Convert a report to plain text: markup, punctuation, answers, abbreviated sides, and sections."""

from __future__ import annotations

import html
import re

_TAG = re.compile(r"<(?P<close>/?)(?P<name>[a-zA-Z][a-zA-Z0-9]{0,9})\b[^<>]{0,200}>")
_INLINE_TAGS = {"b", "i", "u", "em", "strong", "span", "font", "sub", "sup", "small", "a"}
_CELLS = re.compile(r"</t[dh]>\s*<t[dh]\b[^<>]{0,200}>", re.IGNORECASE)
_TABLE_ROW = re.compile(r"^[ \t]*\|?[ \t]*([^|\n]{1,80}?)[ \t]*\|[ \t]*([^|\n]{1,200}?)[ \t]*\|?[ \t]*$", re.MULTILINE)
_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2212\ufe63\uff0d", "-"),
        **dict.fromkeys("\u00a0\u2007\u2009\u202f\t\f\v", " "),
        **dict.fromkeys("\x00\u200b\u200c\u200d\u00ad\ufeff", ""),
        **dict.fromkeys('"{}\u201c\u201d\u201e\u00ab\u00bb', ""),
        **dict.fromkeys("\u2018\u2019\u00b4`", "'"),
    }
)
_YES, _NO = r"yes|ja|s[ií]|oui|sim|present|\+", r"no(?:ne)?|nein|non|n[aã]o|absent|nil|-"
# "Enhancement? No.", "Oedema - none", "Necrosis (-)", "oedema [x] yes": a finding and its answer.
_ANSWER = re.compile(
    rf"(?:[ ]*\?\s*|[ ]+(?=[+-]\s*(?:[.,;\n]|$))|[ ]+[-\u2013\u2014]+[ ]+|[ ]*\((?=\s*(?:{_YES}|{_NO})\s*\)))"
    rf"(?:(?P<yes>{_YES})|(?P<no>{_NO}))\)?(?=\s*(?:[.,;)\n]|$))",
    re.IGNORECASE,
)
_ANSWER_BELOW = re.compile(rf":[ ]*\n[ ]*(?=(?:{_YES}|{_NO})[ ]*(?:[.,;\n]|$))", re.IGNORECASE)
# A line that ends in one of these continues on the next line, whatever its letter case.
_RUNS_ON = re.compile(
    r"(?<![:=?-]\s)\b(the (?:left|right)|the|an|of|in|no|not|with|without|and|or|is|are|to)[ ]*\n[ ]*(?=\w)",
    re.IGNORECASE,
)
_PLACE = (
    r"(?:[\w-]+[\s-]+){0,2}?(?:(?:bi)?front|pariet|tempor|occipit|insul|basal|thalam|cerebell|cerebr"
    r"|hemispher|lobe|sided?\b|caudate"
    r"|putamen|brain|mass|tumou?r|lesion|glio|hippocamp|[\w]+ gyrus|pre-?central|post-?central|peri-?rolandic)"
)
_SIDE_WORDS = {"r": "right", "rt": "right", "l": "left", "lt": "left"}
# "RT frontal", "(L) temporal", "R parietal mass"; an R or L alone needs a capital.
_ABBREVIATED = re.compile(rf"(?<![\w.>/-])\(?\b((?i:rt|lt)|[RL])\b\)?\.?(?=[\s-]+(?i:{_PLACE}))")
_ABBREVIATED_ALONE = re.compile(
    r"(?<=[Ss]ide: )([RL]|[RLrl][Tt])\b\.?|(?<=SIDE: )([RL]T?)\b\.?|(?<=[Ll]aterality: )([RL]|[RLrl][Tt])\b\.?"
    r"|(?<=[Oo]n the )([RL])\b|(?<=, )([RL])(?=\s*(?:[.,;)\n]|$))|\b((?i:lt|rt))\.(?=\s|,|$)"
)
_COMPARED_SIDES = re.compile(r"\b(?:L\s*[>/<]\s*R|R\s*[>/<]\s*L|(?:left|right)\s*[>/<]+\s*(?:left|right))\b")

# Sections that do not describe the current images.
_LEFT_OUT = (
    r"(?:clinical\s+)?background|(?:(?:past|relevant|clinical|patient|medical|surgical|oncological"
    r"|brief)\s+)*(?:history|hx|anamnesis)"
    r"|clinical(?:\s+(?:information|indication|details?|data|question|statement|background|context"
    r"|presentation|diagnosis|notes?))?"
    r"|indications?(?:\s+for\s+\w+)?|reasons?\s+for\s+(?:the\s+)?(?:exam\w*|study|scan|referral|visit|request)|request"
    r"|comparisons?|compared\s+(?:with|to)|prior(?:\s+(?:studies|study|exams?|imaging|mri?))"
    r"|previous(?:\s+(?:studies|study|exams?|imaging|mri?))"
    r"|techniques?|protocol|procedure|sequences|methods?|scan\s+protocol|contrast(?:\s+(?:agent|medium"
    r"|media|administration))|medication|treatment|therapy|questions?"
    r"|klinik|klinische\s+\w+|anamnese|fragestellung|vorgeschichte|technik|vergleich|voraufnahmen?|indikation"
    r"|antecedentes|historia(?:\s+cl[ií]nica)?|indicaci[oó]n|t[eé]cnica|comparaci[oó]n"
    r"|ant[eé]c[eé]dents|renseignements\s+cliniques|indication|technique|comparaison"
    r"|anamnesi|quesito(?:\s+\w+)?|tecnica|confronto|hist[oó]ria(?:\s+cl[ií]nica)?|indica[cç][aã]o|compara[cç][aã]o"
)
_READ = (
    r"findings?|impressions?|conclusions?|summary|assessment|opinion|results?|report|interpretation"
    r"|diagnosis|description|observations?"
    r"|today|current(?:\s+\w+)?|(?:mri?\s+)?brain|head|mri?(?:\s+\w+)?|parenchyma|tumou?r|lesion|mass"
    r"|location|site|side|laterality|lobe|size"
    r"|enhancement|o?edema|necrosis|mass\s+effect|ventricles?|midline|addendum|recommendations?"
    r"|befund|beurteilung|zusammenfassung|hallazgos|conclusi[oó]n|impresi[oó]n|r[eé]sultats?|conclusion"
    r"|reperti|referto|conclusioni"
    r"|achados|conclus[aã]o|impress[aã]o|diagn[oó]stico"
)
_HEADING = re.compile(
    rf"(?:^|(?<=[.\n;!?])|(?<=[.;!?] )|(?<=\n[ *#-])|(?<=\n\d[.)] ))[ *#]*(?:(?P<out>{_LEFT_OUT})"
    rf"|(?P<read>{_READ}))(?:[ *]*:|(?<=\w)[ *]*(?=\n))",
    re.IGNORECASE | re.MULTILINE,
)


def plain_text(report: str) -> str:
    """Return a report without markup, with plain hyphens, answers as "finding: no" and sides spelled out."""
    if "<" in report:
        report = _CELLS.sub(": ", report)
        report = _TAG.sub(lambda tag: "" if tag["name"].lower() in _INLINE_TAGS else "\n", report)
    if "|" in report:
        report = _TABLE_ROW.sub(r"\1: \2", report)
    if "&" in report:
        report = html.unescape(report)
    text = report.translate(_CHARACTERS).replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"\*{1,2}(?=\S)|(?<=\S)\*{1,2}|(?m:^#+ )", "", text) if "*" in text or "#" in text else text
    if "[" in text:
        text = re.sub(r"\[ ?\][ ]*[\w-]+", "", text)
        text = re.sub(r"[ :]*\[[xX]\][ ]*(?=[\w-])", ": ", text)
    text = re.sub(r"[ ]*\.{3,}[ ]*(?=\w)", ": ", text) if "..." in text else text
    text = re.sub(r"\s*\(Y/N\)", "", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=\w)[ ]+\(\d{1,2}\)[ ]+(?=[a-zA-Z])", ". ", text)
    text = _RUNS_ON.sub(r"\1 ", text)
    text = _ANSWER_BELOW.sub(": ", text)
    text = _ANSWER.sub(lambda answer: f": {'yes' if answer['yes'] else 'no'}", text)
    text = _COMPARED_SIDES.sub("left and right", text)
    text = _ABBREVIATED.sub(lambda side: _SIDE_WORDS[side[1].lower()], text)
    return _ABBREVIATED_ALONE.sub(lambda side: _SIDE_WORDS[next(filter(None, side.groups())).lower()], text)


def sections_read(text: str) -> str:
    """Return a plain text without history, comparison, technique and similar sections.

    A section extends from its heading ("FINDINGS:") to the next heading. A section that is left out also ends at the
    first empty line after text.
    """
    headings = list(_HEADING.finditer(text))
    if not any(heading["out"] for heading in headings):
        return text
    pieces = [text[: headings[0].start()]]
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        end = following.start() if following else len(text)
        if heading["out"]:
            body = text[heading.end() : end]
            empty = re.search(r"(?<=\S)[ ]*\n[ ]*\n", body)
            pieces.append("\n" + body[empty.end() :] if empty else "\n")
        else:
            pieces.append(text[heading.start() : end])
    return "".join(pieces).strip()
