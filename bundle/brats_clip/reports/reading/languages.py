"""The language of a report, and German, Spanish, French, Italian and Portuguese in English radiology terms."""

from __future__ import annotations

import re

ENGLISH, UNKNOWN = "English", "unknown"

# Words that tell a language. Those of a language that is not read only tell that it is not English.
_MARKERS = {
    ENGLISH: "the of and with is are was left right mass lesion without there within hemisphere tumour shows seen "
    "has have which from by at on to no not ring rim core size side brain large small present "
    "none surrounding lesions masses enhancing enhances nonenhancing lobes region seizure",
    "German": "der die das den dem des ein eine einer eines im ist sind mit ohne kein keine keinen keiner keinem links rechts linke linken "
    "linker linkes rechte rechten rechter rechtes raumforderung läsion ödem nekrose und oder nicht zeigt bei auf von zur zum beidseits tumor "
    "tumors kontrastmittelaufnahme anreicherung hirnstamm kleinhirn linksseitig rechtsseitig linkshirnig rechtshirnig nachweis",
    "Spanish": "el la los las del una con sin masa lesión izquierdo izquierda izquierdos derecho derecha derechos realce captación y no hay "
    "se en que es por necrosis tumor ínsula lóbulo hemisferio contraste sugestiva",
    "French": "le la les des une du avec sans masse lésion gauche droit droite et est pas prise contraste œdème oedème nécrose tumeur dans "
    "lobe hémisphère au aux processus expansif il y on pariétale pariétal temporale frontale occipitale aucune aucun",
    "Italian": "il lo gli della del dello nel nella con senza massa lesione sinistra sinistro destra destro di è ed ed una un impregnazione "
    "contrasto tumore edema necrosi lobo emisfero presenza espansiva si non sede",
    "Portuguese": "o os as do da dos das no na com sem massa lesão esquerdo esquerda direito direita realce contraste e é não há tumor "
    "lobo hemisfério necrose edema captação uma um em expansiva",
    "Dutch": "het een geen zonder met van linker rechter links rechts de en niet ruimte-innemend laesie oedeem necrose aankleuring aan",
    "Danish, Norwegian or Swedish": "og och uden uten utan ingen inga med venstre vänster højre høyre höger ikke inte ödem ødem i på er är",
    "Polish": "w z i bez guz lewym lewy prawym prawy prawej lewej płacie płata wzmocnienia obrzęk nie jest martwica",
    "Turkish": "sol sağ ve yok var ile lob lobda kitle ödem nekroz izlenmedi izlenmektedir tutulum",
    "Czech or Slovak": "vlevo vpravo bez a s v levého pravého laloku nádor edém nekróza",
    "Romanian": "și cu fără stâng drept stânga dreapta leziune în este",
}
# English words, too, tell nothing.
_SHARED = frozenset("no on is in die des per edema tumor con come sol van drift".split())
_MARKERS = {
    language: frozenset(words.split()) - (_SHARED if language != ENGLISH else frozenset())
    for language, words in _MARKERS.items()
}
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")

# In this order: a phrase before its words.
_GERMAN = (
    (r"mittellinienverlagerung\w*|verlagerung der mittellinie", "midline shift"),
    (r"mittellinie", "midline"),
    (r"z\.\s?n\.|zustand nach|status nach", "status post"),
    (r"resektionshöhle", "resection cavity"),
    (r"(?:resektion|teilresektion)(?: (?:eines|einer|des|der))?", "resection of"),
    (r"(?:beid(?:seit|er|en)\w*|beiderseits|bihemisphär\w*)", "bilateral"),
    (r"links\w*|linke[nmrs]?|li\.", "left"),
    (r"rechts\w*|rechte[nmrs]?|re\.", "right"),
    (r"stirnlappen\w*|frontal\w*", "frontal"),
    (r"schläfenlappen\w*|temporal\w*", "temporal"),
    (r"scheitellappen\w*|parietal\w*", "parietal"),
    (r"hinterhauptslappen\w*|o[ck][ck]?[cz]ipital\w*|okzipital\w*", "occipital"),
    (r"inselrinde|insellappen|inselregion|insulär\w*|insula\w*|insel", "insular"),
    (r"stammganglien\w*|basalganglien\w*", "basal ganglia"),
    (r"thalam\w*", "thalamus"),
    (r"kleinhirn\w*|zerebell\w*", "cerebellum"),
    (r"hirnstamm\w*", "brainstem"),
    (r"(?:nicht|keine?n?|ohne)[ -](?:km-|kontrastmittel-?)?(?:anreichernd|aufnehmend)\w*", "non-enhancing"),
    (r"reicher[nt]\w*\b[^.;,]{0,30}?\b(?:nicht|kein)\b[^.;,]{0,40}\ban\b", "does not enhance"),
    (r"reicher[nt]\w*\b[^.;,]{0,60}\ban\b|nimmt\b[^.;,]{0,40}(?:kontrastmittel|km)\b[^.;,]{0,20}\bauf", "enhances"),
    (
        r"(?:km|kontrastmittel)[- ]?(?:aufnahme|anreicherung|enhancement|affinität|uptake)\w*|(?:schranken|blut-hirn-schranken)störung\w*",
        "enhancement",
    ),
    (r"(?:km-|kontrastmittel-?)?(?:anreichernd|aufnehmend|affin)\w*", "enhancing"),
    (r"(?:rand|ring|rim)[- ]?(?:enhancement|anreicherung\w*)|anreicherung\w*", "enhancement"),
    (r"ringförmig\w*|girlandenförmig\w*|randständig\w*", "ring"),
    (r"(?:hirn|begleit|perifokal\w*[- ]?|umgebungs|marklager)?[öo]e?dem\w*", "oedema"),
    (r"nekros\w*", "necrosis"),
    (r"nekrotisch\w*", "necrotic"),
    (r"zystisch\w*|zysten?", "cystic"),
    (r"raumforderungseffekt\w*|raumfordernde\w* (?:wirkung|effekt)|masseneffekt\w*", "mass effect"),
    (r"raumforderung\w*|tumor\w*|läsion\w*|herd(?:e|es)?|prozess\w*", "mass"),
    (
        r"(?:zeig|find|stell|lass)\w*\s(?:sich\s)?(?:\w+\s)?nicht(?: dar)?|nicht (?:nachweisbar|erkennbar|vorhanden|abgrenzbar)|nicht nachzuweisen",
        "is not seen",
    ),
    (r"kein\w*", "no"),
    (r"ohne", "without"),
    (r"fehlend\w*|fehlt", "absent"),
    (r"nicht", "not"),
    (r"weder", "neither"),
    (r"noch(?=\s)", "nor"),
    (r"aber|jedoch|sondern", "but"),
    (r"mit", "with"),
    (r"und", "and"),
    (r"oder", "or"),
    (r"ausgedehnt\w*|ausgeprägt\w*|deutlich\w*|erheblich\w*|massiv\w*", "marked"),
    (r"gering\w*|diskret\w*|leicht\w*", "mild"),
    (r"mäßig\w*|moderat\w*", "moderate"),
    (r"nachweis(?: von| einer| eines)?", "evidence of"),
    (r"ventrikel\w*", "ventricle"),
    (r"im|in der|in", "in"),
    (r"des|der|von", "of"),
)
_ROMANCE = (
    (r"bi-?(frontal|temporal|parietal|occipital)\w*", r"bilateral \1"),
    (r"front(?:al\w*|aux)", "frontal"),
    (r"tempora(?:l\w*|ux)", "temporal"),
    (r"pari[eé]ta(?:l\w*|ux)", "parietal"),
    (r"occipita(?:l\w*|ux)", "occipital"),
    (r"[ií]nsul[ae]?r?(?:es|is|e|i)?|insulaires?", "insular"),
    (r"t[aá]lam\w*|thalam\w*", "thalamus"),
    (
        r"(?:núcleos|ganglios|gânglios|gangli|nuclei|noyaux) (?:da base|basales|de la base|della base|basais|gris(?: centraux)?)",
        "basal ganglia",
    ),
    (r"cerebel\w*|cerebell\w*|cérébell\w*|cervelet|cervellett\w*", "cerebellum"),
    (r"tron[ck]o? (?:cerebral\w*|cérébral|del encéfalo|encefálico|encefalico|cerebrale)|troncoencéfalo", "brainstem"),
    (r"[oœ]?e?[eéè]d[eéè]m[ae]\w*|œd[eéè]me\w*", "oedema"),
    (r"n[eé]cro(?:sis|si|se|ses)", "necrosis"),
    (r"necr[oó]tic\w*|nécroti\w*", "necrotic"),
    (r"(?:efecto|effet|effetto|efeito)(?: de| di)? mass[ae]?|efecto (?:de )?masa|efeito de massa", "mass effect"),
    (r"c[ií]stic\w*|qu[ií]stic\w*|quistes?|cisti|cistos?|kyst\w*", "cystic"),
    (
        r"masas?|mass[ae]s?|lesi[oó]n(?:es)?|lesion[ei]|les(?:ão|ões)|l[eé]sions?|tumou?r\w*|tumeurs?|tumore?s?|process(?:us|o) (?:expansif|espansivo|expansivo)",
        "mass",
    ),
    (r"bilat[eé]ra\w*", "bilateral"),
    (
        r"(?:desv\w+|desplaz\w+|déviation|spostamento|deviazione) (?:de la |della |da |de )?(?:l[ií]n\w+ media\w*|ligne médiane|linha média)",
        "midline shift",
    ),
    (r"l[ií]nea media\w*|ligne médiane|linha média", "midline"),
    (r"ventr[ií]c\w*", "ventricle"),
    (r"moderad\w*|mod[eé]r[eé]\w*|moderat\w*", "moderate"),
    (r"(?:lev|légèr|lieve|lieví|discret|liev)\w*", "mild"),
    (r"(?:extens|marcad|important|marqu|severo|severa|esteso|estesa|marcat|notevol|acentuad|étendu)\w*", "marked"),
    (r"anular\w*|anelar\w*|anello|annulaire\w*|periféric\w*|périphérique\w*|periferic\w*", "ring"),
)
_SPANISH = (
    (r"izquierd\w+|izda?\.|izq\.", "left"),
    (r"derech\w+|dcha?\.|der\.", "right"),
    (
        r"no (?:presenta |muestra |se observa |se aprecia |hay )?(?:realza|realce|capta\w*)(?: (?:de )?contraste)?",
        "no enhancement",
    ),
    (
        r"(?:realce|captaci[oó]n|realza|realzan|capta|captante)(?: (?:de |del |tras )?(?:medio de )?contraste)?",
        "enhancement",
    ),
    (r"hipercaptante", "enhancing"),
    (r"ausencia de", "no"),
    (r"sin", "without"),
    (r"ni", "nor"),
    (r"y", "and"),
    (r"con", "with"),
    (r"pero", "but"),
    (r"en(?: el| la)?", "in"),
    (r"del?(?: la)?", "of"),
)
_FRENCH = (
    (r"gauches?", "left"),
    (r"droite?s?", "right"),
    (r"(?:non|ne se) rehauss\w+(?: pas)?|ne prend pas le contraste", "non-enhancing"),
    (
        r"(?:prise|réhaussement|rehaussement|réhauss\w+|rehauss\w+)(?: (?:de|du|le) (?:produit de )?contraste)?",
        "enhancement",
    ),
    (r"(?:il n'y a |on ne (?:note|retrouve|voit) )?pas de|absence de|aucune?", "no"),
    (r"sans", "without"),
    (r"ni", "nor"),
    (r"et", "and"),
    (r"avec", "with"),
    (r"mais", "but"),
    (r"dans(?: le| la)?|au niveau d(?:u|e la)", "in"),
    (r"du|de la|des|de", "of"),
)
_ITALIAN = (
    (r"sinistr\w+|sn\.?|sin\.", "left"),
    (r"destr\w+|dx\.?", "right"),
    (
        r"non (?:si (?:osserva|rileva|apprezza)\w* |presenta |mostra )?(?:impregn\w+|potenziamento|enhancement|captazione)",
        "no enhancement",
    ),
    (
        r"(?:impregnazione|potenziamento|presa|captazione|enhancement)(?: (?:contrastografic\w+|di contrasto|contrastuale|post-contrast\w+))?|si impregna",
        "enhancement",
    ),
    (r"assenza di|nessun\w*", "no"),
    (r"assent[ei]", "absent"),
    (r"senza", "without"),
    (r"non", "not"),
    (r"n[eé]", "nor"),
    (r"ed?", "and"),
    (r"con", "with"),
    (r"ma", "but"),
    (r"nel(?:la|lo)?|in sede", "in"),
    (r"del(?:la|lo|le)?|di", "of"),
)
_PORTUGUESE = (
    (r"esquerd\w+|esq\.", "left"),
    (r"direit\w+|dir\.", "right"),
    (r"não (?:há |apresenta |se observa |se identifica |mostra )?(?:realc\w+|impregn\w+|captação)", "no enhancement"),
    (r"(?:realc\w+|impregnação|captação)(?: (?:pelo|de|do|ao) (?:meio de )?contraste)?", "enhancement"),
    (r"ausência de|não há", "no"),
    (r"ausentes?", "absent"),
    (r"sem", "without"),
    (r"não", "not"),
    (r"nem", "nor"),
    (r"e", "and"),
    (r"com", "with"),
    (r"mas", "but"),
    (r"n[oa]", "in"),
    (r"d[oae]s?", "of"),
)
_GLOSSARIES = {
    "German": _GERMAN,
    "Spanish": _ROMANCE + _SPANISH,
    "French": _ROMANCE + _FRENCH,
    "Italian": _ROMANCE + _ITALIAN,
    "Portuguese": _ROMANCE + _PORTUGUESE,
}
LANGUAGES_READ = (ENGLISH, *_GLOSSARIES)
# "links frontal" is "left frontal"; "frontotemporal links" and "Stirnlappen" come apart into words, too.
_COMPOUND = re.compile(
    r"(?<![^\W_])(fronto|temporo|parieto|pari[eé]to|o[ck]{1,2}[cz]?ipito|okzipito)-?(?=[^\W\d_])", re.IGNORECASE
)
_FIRST = {"f": "frontal ", "t": "temporal ", "p": "parietal ", "o": "occipital "}
_PATTERNS = {
    language: tuple(
        (re.compile(rf"(?<![^\W_])(?:{pattern})(?![^\W_])", re.IGNORECASE), new) for pattern, new in glossary
    )
    for language, glossary in _GLOSSARIES.items()
}


def language_of(text: str) -> str:
    """Language of a report: one of ``LANGUAGES_READ``, the name of another one, or "unknown"; "" is English."""
    letters = re.findall(r"[^\W\d_]", text)
    if letters and sum(bool(_LATIN.match(letter)) for letter in letters) < 0.6 * len(letters):
        return UNKNOWN
    words = [word.lower() for word in _WORD.findall(text) if len(word) > 1]
    hits = {language: sum(word in markers for word in words) for language, markers in _MARKERS.items()}
    best = max(hits, key=hits.get)  # English comes first: it wins a draw
    return best if hits[best] else ENGLISH


def in_english(text: str) -> str:
    """Return a report with the terms that matter in English, word by word; "" in a language that is not read."""
    language = language_of(text)
    if language == ENGLISH:
        return text
    if language not in _PATTERNS:
        return ""
    text = re.sub(r"(?<=[^\W\d_])'(?=[^\W\d_])", "e ", text)  # "d'oedeme", "dell'insula"
    text = _COMPOUND.sub(lambda match: _FIRST[match[1][0].lower()], text)
    # A word that was put in English is not looked up again.
    done: list[str] = []

    def keep(new: str):
        def replace(match: re.Match[str]) -> str:
            done.append(match.expand(new))
            return f"\x00{len(done) - 1}\x00"

        return replace

    for pattern, new in _PATTERNS[language]:
        text = pattern.sub(keep(new), text)
    return re.sub(r"\x00(\d+)\x00", lambda match: done[int(match[1])], text)
