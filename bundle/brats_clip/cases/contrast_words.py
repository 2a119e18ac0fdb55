"""Detect whether a series description or a file name says that contrast agent was given, in ten languages.

English, German, French, Spanish, Italian, Portuguese, Dutch, the Nordic languages, Polish and Turkish. The series of a
DICOM study and the files of a folder share this table. A negation ("ohne", "sin", "bez") or a word for "before" ("vor",
"avant", "przed") cancels the name of the agent that follows; in Turkish it follows the name. Any name of an agent that
is not cancelled means that agent was given.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

# Names of contrast agent. "c" and "k" alone only count next to a sign, T1 or a negation.
_AGENT = (
    r"(?:(?:contr|kontr)(?:ast|asc)\w*|[ck]on?tr|ctre?|cte|gd(?:tpa)?|gad\w*|mdc|pdc|km|ce|iv ?[ck]?m?|inj\w*"
    r"|iniez\w*|iniett\w*|inye[ck]\w*|enje[ck]\w*|insprojt\w*|bolus\w*|dota(?:rem|graf|vist)|magnevist|prohance|omniscan|multihance"
    r"|clariscan|elucirem|artirem|vueway|enh(?:anc\w*)?|rehauss\w*|wzmocn\w*|srod\w+)"
)
_LETTER = rf"(?:{_AGENT}|[ck])"
# Words between a negation or time and the agent, or between two agent names: "avant injection de produit de contraste".
_FILLER = (
    r"(?:d[eaio]|del|della|dell|do|da|du|d|l|la|le|el|il|lo|o|a|the|den|der|des|of|i|v|ev|iv|any|intraven\w*|endoven\w*"
    r"|mezzo|medio|meio|produit|agent\w*|material\w*|media|medium|madde\w*|mittel|stof|middel|medel|substan\w*"
    r"|gabe|applikation|admin\w*|pod\w+|i ?v)"
)
_PHRASE = rf"(?: {_FILLER})* {_LETTER}\b(?:(?: {_FILLER})* {_AGENT}\b)*"

_NEEDS_NO_AGENT = r"without|wo|w o|ohne|sans|sin|senza|sem|zonder|utan|uden|uten|bez"
_WITHOUT = rf"{_NEEDS_NO_AGENT}|kein\w*|geen|ikke|inte|ej|brak|no|non|not|none|nao|nie|niet|nicht|minus|u|o|s"
_BEFORE = r"pre|prae?|prior(?: to)?|before|vor|avant|antes|ante|prima|prev\w*|voor|fore|foer|for|innan|forud|przed"
_ALONE = rf"{_NEEDS_NO_AGENT}|pre|prae?|before|vor|avant|antes|prima|voor|przed|prior"  # valid without an agent's name
_AFTER = (
    r"post|after|nach|apres|despues|tras|dopo|depois|apos|pos|efter|etter|sonra\w*|following"
    r"|with|mit|avec|con|com|met|med"
)
# "without FS", "post op", "vor OP": not about the agent.
_OTHER_MATTER = (
    r"(?! (?:fs|fat\w*|fett\w*|satur\w*|sat|supp\w*|mt|mtc|mtr|gap|motion|beweg\w*|gating|dixon|stir|sedat\w*|narkose|"
    r"flow|fc|dis\w*|filter|norm|op|ops|oper\w*|opr|ok|surg\w*|chir\w*|resec\w*|resek\w*|biop\w*|bx|tx|rt|rxt|xrt|radio\w*|"
    r"rad|chemo\w*|strahl\w*|bestr\w*|therap\w*|treat\w*|trait\w*|trat\w*|terap\w*|ameliyat\w*|kirurg\w*|zabieg\w*|"
    r"proc\w*|fossa|stealth|nav\w*|w|wo|without|ohne|sans|sin|senza|sem|zonder|utan|uden|uten|bez|no|non)\b)"
)

NATIVE = re.compile(
    rf"\b(?:{_WITHOUT}|{_BEFORE}){_PHRASE}"
    rf"|\bz contrast\w*"  # Dutch for "without contrast"; Polish "z kontrastem" means "with"
    rf"|\b{_LETTER}(?: {_FILLER})* (?:once\w*|yok|free|fri|frei|vrij|neg\w*)\b"
    r"|\b(?:[ck]ontrast\w*|km|gado?\w*)(?:siz|suz|fri|frei|vrij|los|free)\b"
    r"|\b(?:t1w?)?(?:pre|pra|vor|ohne|sans|sin|senza|sem|bez|non?|un|not)"
    r"(?:c|ce|gd|gad\w*|km|[ck]ontr\w*|inj\w*|enh\w*|con)\b"
    r"|\b(?:t1w?)?(?:nati[vf]\w*|natief|natyw\w*)\b|\bt1w?(?:pre|n)\b"
    r"|\b(?:plain|baseline|basal\w*|simples?|blanco|blank|bianco|diretta|unenh\w*|nc|nce|non ?con|smdc|okm)\b"
    rf"|\b(?:{_ALONE})\b{_OTHER_MATTER}"
)
GIVEN = re.compile(
    rf"\b(?:{_AFTER}|na|po|z|c|m|w){_PHRASE}"
    rf"|\b{_AGENT}\b|\+ ?{_LETTER}\b|(?<!\w){_LETTER} ?\+|\bt1w? [ck]\b"
    rf"|\bt1w?(?:c|ce|cgd|gd|gad\w*|km|k|contrast|cw|wce)\b|\bt1w?post?\b{_OTHER_MATTER}|\bt1w? ?\+(?= |$)"
    r"|\b(?:post|nach|mit|apres|dopo|pos)(?:c|ce|gd|gad\w*|km|[ck]ontr\w*|inj\w*)\b|\bpc\b|\bcmdc\b|\bmkm\b"
    rf"|\b(?:post|after|nach|apres|despues|dopo|depois|apos|pos|efter|etter|sonra\w*)\b{_OTHER_MATTER}"
    r"|\b(?:with|mit|avec|con|com|met|med)$"
)
_BOTH = re.compile(
    rf"\b(?:{_AFTER}|w|m|c) (?:and|und|et|y|e|en|og|och|i|ve|or) (?:{_WITHOUT}|{_BEFORE})\b"
    rf"|\b(?:with|w|mit|avec|con|com|met|med) (?:{_ALONE})\b"
)
_LETTERS = str.maketrans({"ł": "l", "ø": "o", "\u0131": "i", "ß": "ss", "æ": "ae", "đ": "d", "_": " "})
_SIGNED = r"(?:t1w?)?(?:c|k|ce|gd|gad\w*|km|mdc|iv|contrast\w*|kontrast\w*)"


@dataclass(frozen=True)
class ContrastWords:
    """What a text says about contrast agent.

    Attributes:
        answer: "yes", "no", or "" if the text says nothing or both.
        words: the words that decide the answer.
        by_hyphen: "yes" is due to a hyphen before the agent, as in "T1-C", which means "no" next to a "T1+C".
        by_plus: "yes" is due to a plus sign.
    """

    answer: str = ""
    words: str = ""
    by_hyphen: bool = False
    by_plus: bool = False


def contrast_of(text: str) -> ContrastWords:
    """Return what ``text`` (a series description, or a file name without extension) says about contrast agent."""
    plain = _plain(text)
    hyphen = re.search(r"(?<=\w)-(?=(?:c|k|gd|km)(?: |$))", plain) is not None
    plain = " ".join(re.sub(r"[^\w+]", " ", plain).split())
    if _BOTH.search(plain):
        return ContrastWords()
    native = NATIVE.search(plain)
    given = GIVEN.search(NATIVE.sub(" ; ", plain))
    if native and not given:
        return ContrastWords("no", native.group().strip())
    if given and not native:
        return ContrastWords("yes", given.group().strip(), hyphen, "+" in given.group())
    return ContrastWords()


def resolve_hyphens(said: dict[str, ContrastWords]) -> dict[str, ContrastWords]:
    """Read "T1-C" as "no" if another text of the same exam has "T1+C".

    Args:
        said: answers for the T1-weighted images of one exam, by any key.
    """
    if not any(words.by_plus for words in said.values()):
        return said
    return {k: ContrastWords("no", w.words.replace(" ", "-")) if w.by_hyphen else w for k, w in said.items()}


def _plain(text: str) -> str:
    """Convert to lower case without accents, and spell out signs and abbreviations."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    text = "".join(c for c in decomposed if not unicodedata.combining(c)).translate(_LETTERS)
    text = re.sub(r"\bm ?\. ?d ?\. ?c\b\.?", "mdc", text)
    text = re.sub(r"\b([ie]) ?\. ?v\b\.?", "iv", text)
    text = re.sub(r"\bk ?\. ?m\b\.?", "km", text)
    text = re.sub(r"\+ ?[/\\] ?-", " without with c ", text)
    text = re.sub(r"\(([+-])\)", r"\1", text)
    text = re.sub(r"\bw ?[/\\] ?o\b", " without ", text)
    text = re.sub(r"\bs ?[/\\] ?", " without ", text)
    text = re.sub(r"\b[wc] ?[/\\] ?", " with ", text)
    text = re.sub(rf"\b({_SIGNED})-(?=[\s.)\]]|$)", r" without \1 ", text)
    text = re.sub(r"\bt1(w?)-(?=\s|$)", r"t1\1 without c ", text)
    return re.sub(rf"(?:(?<=[\s(])|^)-({_SIGNED})\b", r" without \1 ", text)
