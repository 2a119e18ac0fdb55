"""Detect the language of a report, and translate radiology terms of the supported languages to English."""

from __future__ import annotations

import re

from .glossary import GLOSSARIES

ENGLISH, UNKNOWN = "English", "unknown"

# Words that identify a language. Unsupported languages are listed so that they are not taken for a supported one.
_MARKERS = {
    ENGLISH: "the of and with is are was left right mass lesion without there within hemisphere tumour shows seen "
    "has have which from by at on to no not ring rim core size side brain large small present "
    "none surrounding lesions masses enhancing enhances nonenhancing lobes region seizure",
    "German": "der die das den dem des ein eine einer eines im ist sind mit ohne kein keine keinen keiner keinem "
    "links rechts linke linken "
    "linker linkes rechte rechten rechter rechtes raumforderung läsion ödem nekrose und oder nicht "
    "zeigt bei auf von zur zum beidseits tumor "
    "tumors kontrastmittelaufnahme anreicherung hirnstamm kleinhirn linksseitig rechtsseitig "
    "linkshirnig rechtshirnig nachweis",
    "Spanish": "el la los las del una con sin masa lesión izquierdo izquierda izquierdos derecho derecha derechos "
    "realce captación y no hay "
    "se en que es por necrosis tumor ínsula lóbulo hemisferio contraste sugestiva",
    "French": "le la les des une du avec sans masse lésion gauche droit droite et est pas prise contraste œdème "
    "oedème nécrose tumeur dans "
    "lobe hémisphère au aux processus expansif il y on pariétale pariétal temporale frontale occipitale aucune aucun",
    "Italian": "il lo gli della del dello nel nella con senza massa lesione sinistra sinistro destra destro di è "
    "ed ed una un impregnazione "
    "contrasto tumore edema necrosi lobo emisfero presenza espansiva si non sede",
    "Portuguese": "o os as do da dos das no na com sem massa lesão esquerdo esquerda direito direita realce "
    "contraste e é não há tumor "
    "lobo hemisfério necrose edema captação uma um em expansiva",
    "Dutch": "het een geen zonder met van linker rechter links rechts de en niet ruimte-innemend laesie oedeem "
    "necrose aankleuring aan",
    "Danish, Norwegian or Swedish": "og och uden uten utan ingen inga med venstre vänster højre høyre höger ikke inte "
    "ödem "
    "ødem "
    "i "
    "på "
    "er är",
    "Polish": "w z i bez guz lewym lewy prawym prawy prawej lewej płacie płata wzmocnienia obrzęk nie jest martwica",
    "Turkish": "sol sağ ve yok var ile lob lobda kitle ödem nekroz izlenmedi izlenmektedir tutulum",
    "Czech or Slovak": "vlevo vpravo bez a s v levého pravého laloku nádor edém nekróza",
    "Romanian": "și cu fără stâng drept stânga dreapta leziune în este",
}
# Words that are also English, or common to several languages, identify none.
_SHARED = frozenset(("no", "on", "is", "in", "die", "des", "per", "edema", "tumor", "con", "come", "sol", "van"))
_MARKERS = {
    language: frozenset(words.split()) - (_SHARED if language != ENGLISH else frozenset())
    for language, words in _MARKERS.items()
}
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")

LANGUAGES_READ = (ENGLISH, *GLOSSARIES)
# Combining forms are split off: "frontotemporal links" becomes "frontal temporal links".
_COMPOUND = re.compile(
    r"(?<![^\W_])(fronto|temporo|parieto|pari[eé]to|o[ck]{1,2}[cz]?ipito|okzipito)-?(?=[^\W\d_])", re.IGNORECASE
)
_FIRST = {"f": "frontal ", "t": "temporal ", "p": "parietal ", "o": "occipital "}
_PATTERNS = {
    language: tuple(
        (re.compile(rf"(?<![^\W_])(?:{pattern})(?![^\W_])", re.IGNORECASE), new) for pattern, new in glossary
    )
    for language, glossary in GLOSSARIES.items()
}


def language_of(text: str) -> str:
    """Return the language of a report: one of ``LANGUAGES_READ``, another language, or "unknown"; "" is English."""
    letters = re.findall(r"[^\W\d_]", text)
    if letters and sum(bool(_LATIN.match(letter)) for letter in letters) < 0.6 * len(letters):
        return UNKNOWN
    words = [word.lower() for word in _WORD.findall(text) if len(word) > 1]
    hits = {language: sum(word in markers for word in words) for language, markers in _MARKERS.items()}
    best = max(hits, key=hits.get)  # English comes first, so it wins a tie
    # A single word is not enough to refuse a report.
    return best if hits[best] > (best not in LANGUAGES_READ) else ENGLISH


def in_english(text: str) -> str:
    """Translate the terms of a report that matter to English, word by word; "" for an unsupported language."""
    language = language_of(text)
    if language == ENGLISH:
        return text
    if language not in _PATTERNS:
        return ""
    text = re.sub(r"(?<=[^\W\d_])'(?=[^\W\d_])", "e ", text)  # "d'oedeme", "dell'insula"
    text = _COMPOUND.sub(lambda match: _FIRST[match[1][0].lower()], text)
    # A translated word becomes a placeholder, so that it is not looked up again.
    done: list[str] = []

    def keep(new: str):
        def replace(match: re.Match[str]) -> str:
            done.append(match.expand(new))
            return f"\x00{len(done) - 1}\x00"

        return replace

    for pattern, new in _PATTERNS[language]:
        text = pattern.sub(keep(new), text)
    return re.sub(r"\x00(\d+)\x00", lambda match: done[int(match[1])], text)
