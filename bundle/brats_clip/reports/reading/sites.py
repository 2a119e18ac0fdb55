"""Where a report puts the tumour: the sides and lobes that it names, and what it names them for."""

from __future__ import annotations

import re
from bisect import bisect_left

from ..findings import LOBES
from .negation import near

_LOBES = {
    "frontal": r"\b(?:bi|orbito|pre)?front(?:al|o[- ]?(?=tempor|pariet|occipit|insul|basal|cent))|\bpre-?central\b"
    r"|\bgyrus rectus\b|\bmotor cortex\b",
    "parietal": r"pariet(?:al|o[- ]?(?=tempor|occipit|front|insul))|\bpost-?central\b|\bprecuneus\b|\b(?:angular"
    r"|supramarginal) gyrus\b",
    "temporal": r"tempor(?:al(?!is)|o[- ]?(?=pariet|occipit|insul|front|basal|mesial))|\b(?:para)?hippocamp"
    r"|\bamygdal|\buncus\b|\buncal region\b",
    "occipital": r"occipit(?:al|o[- ]?(?=pariet|tempor|front))|\bcuneus\b|\bcalcarine\b|\blingual gyrus\b",
    "insular": r"\binsul(?:a|ar|ae)\b|(?<=o)insular\b",
    "deep": r"\bbasal gangli|\bbasal nuclei|\b(?:bi)?thalam|\bputamen|\bcaudate|\bpallid|\bstriat|\blent(?:iform"
    r"|icular)|\bdeep gr[ae]y|\binternal capsule",
    "cerebellum": r"\bcerebell|\bvermis\b",
    "brainstem": r"\b(?:brain[- ]?stem|hind-?brain)\b|\bpons\b|\bpontine\b|\bmidbrain\b|\bmesenceph|\bmedulla\b",
}
_OTHER_TEMPORAL = r"(?!\s+(?:horns?|sinus(?:es)?|bones?|evolution|course|resolution|changes?|relation\w*|arter\w*)\b)"
_LOBES = {name: re.compile(rf"(?:{_LOBES[name]}){_OTHER_TEMPORAL}", re.IGNORECASE) for name in LOBES}
_SIDES = {
    # "Is left of the tumour", "the patient left the room": a verb. "Left of the midline" is not.
    "left": (
        r"(?:\b(?:left|lt\.)(?![a-z])(?!\s+(?:over|behind|untreated|alone|unchanged|in place|in situ"
        r"|the (?:room|scanner|scan|hospital|department|exam\w*))\b)"
        r"|\bleft(?=wards?\b))"
    ),
    "right": r"\b(?:right|rt\.)(?![a-z])|\bright(?=wards?\b)",
    "bilateral": (
        r"\bbilateral(?:ly)?\b|\b(?:both|either) (?:sides?|(?:cerebral )?hemispheres?|[a-z-]+ lobes"
        r"|thalam\w+|insul\w+)\b"
        r"|\bbi-?(?:frontal|parietal|temporal|occipital|hemispheric|thalamic|insular)\w*|\bbutterfly\b"
    ),
    "midline": r"\bmidline\b(?!\s+(?:shift|structures?|displacement|deviation))",
}
_SIDES = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _SIDES.items()}

_REMAINS = re.compile(
    r"\b(?:of|nothing|little|what|much|remnants?|tissue)\b[^.;,]{0,40}\b(?:is|was|are|were|be|been|has|have|had)\s$"
    r"|\b(?:patient|s?he|who|they)\s(?:has\s|had\s)?$",
    re.IGNORECASE,
)
# A side or a lobe that is named in order to say that it is well.
_WELL = (
    r"(?:normal|spared|unaffected|unremarkable|intact|free|preserved|uninvolved|clear|not (?:involved"
    r"|affected|infiltrated))"
)
_PLACE_WORD = (
    r"(?:and|or|the|of|both|lobes?|regions?|hemispheres?|cerebral|cerebellar|side|brain|lateral|gyr(?:us"
    r"|i)|cortex|matter|\w*frontal|\w*parietal|"
    r"\w*temporal|\w*occipital|insulae?|insular|basal|ganglia|thalam\w+|cerebellum|brain-?stem|pons"
    r"|midbrain|medulla|parenchyma|"
    r"structures|deep|gr[ae]y|white|left|right|part|also|again)"
)
_SPARED_AFTER = re.compile(
    rf"^\w*(?:[-\s,/)]*{_PLACE_WORD}\b)*(?:\s+(?:is|are|was|were|remains?|appears?|looks?"
    rf"|being)\s+(?:\w+ly\s+)?{_WELL}\b"
    rf"(?!\s+of)|\s*[:(]?\s*(?:\w+ly\s+)?{_WELL}\b(?=\s*(?:[.;,)]|$|and\b|in\b))"
    r"|\s+(?:shows?|has|have|demonstrates?)\s+(?:no|normal)\s+(?:abnormalit|lesion|involvement|signal"
    r"|appearance|patholog))"
    r"|^[^.;]*?\bwithout (?:abnormalit|lesion)",
    re.IGNORECASE,
)
_NO_VERB = r"(?:(?!\b(?:lies|lying|is|are|but|extends|involves|located|cent(?:red|ered))\b)[^.;,])*"
_SPARED_BEFORE = re.compile(
    r"(?:\b(?:spar(?:es|ing|ed)|respect(?:s|ing|ed)?|no (?:[\w-]+ )?(?:involvement|abnormality|extension|infiltration)"
    r"|no (?:(?!enhancing)[\w-]+ )?(?:lesions?|mass(?:es)?|tumou?rs?)(?=(?:\s(?:is|are))?(?:\sseen"
    r"|\sfound)?\s(?:in|on|within|at)\b)"
    r"|nothing (?:abnormal|suspicious|else)|not (?:involve|affect|reach|extend|infiltrate)\w*"
    r"|without (?:involvement|extension|infiltration)|free)\b"
    rf"{_NO_VERB}"
    rf"|\b(?:unremarkable|normal(?: (?:appearance|signal|aspect|size|morphology"
    rf"|structure))?)\b(?:,?\s*(?:in|{_PLACE_WORD})\b)*\s|\bnot\s(?:on\s|in\s)?(?:the\s)?"
    r"|\bno (?:[\w-]+ )?(?:lesions?|mass(?:es)?|tumou?rs?)\s)$",
    re.IGNORECASE,
)

# A lesion on the left may well compress the right ventricle.
_VENTRICLE = re.compile(r"\bventric|\bmass[\s-]effect", re.IGNORECASE)
# A side that something is shifted to, or on which something is compressed or was operated on, is not the lesion's:
# "shift to the right", "compression of the right", "5 mm to the right"; but "compression by a mass on the right" is.
_LESION = r"mass(?:es)?(?![\s-]effect)|tumou?rs?|lesions?|neoplasms?|\w*gliomas?|\w*blastomas?|\w*cytomas?|metastas\w+"
_CAUSE = rf"by|due|because|caus\w*|account|owing|results?|resulting|and|with|in|within|{_LESION}"
_MOVED_BEFORE = re.compile(
    r"\b(?:(?:shift|displac|deviat|herniat|push|compress|effac|narrow|flatten|deform|craniotom|craniectom)\w*"
    rf"|press(?:es|ing)|mass[\s-]effect(?!\sof\b))\b(?:(?!\b(?:{_CAUSE})\b)[^.;:,])*$"
    r"|\d\s*(?:mm|cm)\sto(?:wards?)?\s(?:the\s)?$|\bventric\w*\s(?:on|at)\sthe\s$"
    r"|\b(?:shift\w*|displac\w*)\s(?:of\s)?[^.;:]{0,30}(?:to|towards)\s(?:the\s)?$",
    re.IGNORECASE,
)
# "rightward shift", "left-to-right midline shift", "right frontal craniotomy".
_ADJECTIVE = (
    r"midline|mild|slight|minor|moderate|marked|severe|subfalcine|uncal|\w*frontal|\w*temporal"
    r"|\w*parietal|\w*occipital|"
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
    r"^(?:[\s-]sided)?(?:\s(?!(?:by|from|for|of|on|at|after|with|and|due|to|in|is|are|caus\w*"
    r"|secondary)\b)[\w-]+){0,4}?"
    rf"\s(?:{_LESION})\b",
    re.IGNORECASE,
)
# "The midline is central", "midline not shifted".
_MIDLINE_STATE = re.compile(
    r"^(?:\s*[:=]|\s+(?:(?:is|was|appears|remains|seems)\b|not\b|central|cent(?:re|er)ed|shifted|displaced|deviated))",
    re.IGNORECASE,
)
_UNCROSSED = re.compile(r"\b(?:not|no|without|never)\b[^.;,]{0,30}\bcross\w*(?:\sof)?\sthe\s$", re.IGNORECASE)
# "No enhancement on the left": the place of what is denied is that of a lesion only where nothing else tells it.
_DENIED_THERE = re.compile(
    r"\b(?:no|without|absence of|neither|nor)\b[^.;,]*\b(?:in|on|at|within|of|around|near)\s(?:the\s)?$", re.IGNORECASE
)

# What a place may belong to: the tumour or a sign of it, or something else in the head, in the body or in the past.
_SIGN = (
    rf"{_LESION}|nodules?|foc(?:us|i)|abnormalit\w+|signal|hyperintens\w+|(?:non-?)?enhanc\w+|o?edema\w*"
    rf"|necro\w+|cavity|process|infiltrat\w+"
    r"|recurren\w+|growth|core|location|localisation|localization|site|side|lobe:|laterality"
    r"|epicent(?:re|er)|extend\w*|involv\w*"
    r"|cross\w*|spread\w*|invad\w*|affect\w*|located|cent(?:red|ered)|lying|lies|oligodendro\w+|gbm|lymphoma"
)
_OTHER = (
    r"infarct\w*|lacun\w*|contusions?|hyperostosis|osteoma\w*|opacification|small[- ]vessel"
    r"|microvascular|artefacts?|artifacts?|implant|cataract|strokes?|ischa?emi\w*|meningioma\w*"
    r"|(?:developmental )?venous anomal\w+|DVA"
    r"|cavernom\w*|cavernous malformation|"
    r"aneurysm\w*|(?:arachnoid|retention|pineal|colloid|choroid\w* fissure|epidermoid|porencephalic"
    r"|mucous) cysts?|polyps?|mucosal|mucocele|"
    r"sinus(?:es|itis)?|(?:oto)?mastoid\w*|encephalomalaci\w*|gliosis|microangiopath\w*|leukoaraiosis"
    r"|white[- ]matter (?:disease|changes|"
    r"hyperintensit\w+|lesions)|lipoma|schwannoma|neuroma|hygroma|(?:sub|epi)dural\w*|ha?ematoma"
    r"|microbleeds?|siderosis|perivascular spaces?|"
    r"(?:hippocampal|mesial temporal) sclerosis|arter(?:y|ies)|veins?|muscles?|temporalis|bones?"
    r"|calvari\w*|skull|scalp|orbit(?:s|al)?|globe|"
    r"parotid|turbinates?|maxillary|ethmoid\w*|cochlea\w*|petrous|carotid|mastectomy|breast|lung|kidney|arms?|legs?"
    r"|hands?|foot|face|facial|"
    r"hemi(?:paresis|plegia|anopsia|anopia|body)|weakness|handed\w*|eyes?|ears?|visual|pares[ie]s"
    r"|numbness|shunt|catheter|reservoir|burr hole|"
    r"craniotom\w*|craniectom\w*|cranioplast\w*|lobectom\w*|biopsy(?!-)|resection(?! cavity)|surgery|"
    r"post-?(?:surgical|operative|treatment|radiation|traumatic) \w+|"
    r"(?:old|chronic|remote) (?:[\w-]+ )?(?:ha?em\w+|contusions?|bleed\w*|injury|insult|trauma|defect|changes)"
)
_THING = re.compile(rf"\b(?:(?P<other>{_OTHER})|(?P<sign>{_SIGN}))\b", re.IGNORECASE)
_STRAIGHT_TO = re.compile(
    r"\w*(?:[\s/-]+(?!(?:in|on|with|and|at|of|by|from|is|are|was|were|has|within|without|which|that|to"
    r"|for|around|near|but|or|along|after|before|during|following|via|through|into|under|over|between"
    r"|since|due)\b)[\w-]+){0,4}?[\s-]+",
    re.IGNORECASE,
)
# Former lesions: "resection of the left frontal glioma", "glioma on the left, since resected", "the prior MRI showed".
_FORMER_BEFORE = re.compile(
    r"\b(?:(?:treated|resected|operated|irradiated|removed|excised)(?=\s+(?:(?!tumou?r|mass|lesion|from"
    r"|by|with|and)[\w-]+\s+)*$)"
    r"|previously (?:treated|resected|operated|irradiated|diagnosed)|(?:mri?|ct|scan|study)\s(?:from|of"
    r"|in|dated)\s[^.;]{0,30}?\d\d\b[^.;]{0,20}?\b"
    r"(?:show\w+|demonstrat\w+|reveal\w+|with)|(?:resection|excision|removal|debulking|surgery|operation"
    r"|irradiation|radiotherapy|history)\s(?:of|for)"
    r"|(?:prior|previous|earlier|last|outside)\s(?:stud(?:y|ies)|exam\w*|mri?s?|scans?|ct"
    r"|imaging)\b[^.;]{0,40}?(?::|\b(?:show\w+|demonstrat\w+|reveal\w+|with)))"
    r"(?:(?!\b(?:now|new|residual|recurren\w+|current\w*)\b)[^.;])*$",
    re.IGNORECASE,
)
_FORMER_AFTER = re.compile(
    r"^[^.;]{0,70}?(?:,|\bwhich|\bthat|\bwas|\bhas been)\s*(?:since|now|meanwhile|was|has been|had been"
    r"|completely|\s)*(?:resected|operated|removed|excised)\b"
    r"|^[^.;]{0,50}?\b(?:is|are)\sno\slonger\b|^[^.;]{0,50}?\b(?:has|have)\s(?:since\s"
    r"|completely\s)?(?:resolved|disappeared)\b",
    re.IGNORECASE,
)


class Sites:
    """Collects, sentence by sentence, the sides and lobes that a report names."""

    def __init__(self) -> None:
        self.sides: dict[str, None] = {}
        # Places by what they are named for; where one group is empty, the next one counts. Sides: of the lesion,
        # unclear, of what is denied, beside a ventricle, of a former lesion. Lobes: of the lesion, unclear, former.
        self._sides: tuple[set[str], ...] = (set(), set(), set(), set(), set())
        self._lobes: tuple[dict[str, None], ...] = ({}, {}, {})

    def add(self, sentence: str) -> None:
        """Read one sentence."""
        things = [(match.start(), match.end(), bool(match["other"])) for match in _THING.finditer(sentence)]
        starts = [thing[0] for thing in things]
        lesions, unclear, denied, ventricles, former = self._sides
        at_ventricle = bool(_VENTRICLE.search(sentence))
        for name, pattern in _SIDES.items():
            for match in pattern.finditer(sentence):
                before, after = near(sentence, *match.span())
                if _spared(before, after) or (name == "left" and _verb(before, after)):
                    continue
                self.sides[name] = None
                other = _of_other(sentence, match, things, starts)
                if other or _moved(before, after, name):
                    continue
                if _former(before, after):
                    former.add(name)
                elif at_ventricle:
                    ventricles.add(name)
                elif _DENIED_THERE.search(before):
                    denied.add(name)
                else:
                    (unclear if other is None else lesions).add(name)
        found = []
        for name, pattern in _LOBES.items():
            for match in pattern.finditer(sentence):
                before, after = near(sentence, *match.span())
                other = _of_other(sentence, match, things, starts)
                if not (other or _spared(before, after)):
                    found.append((match.start(), name, 2 if _former(before, after) else int(other is None)))
        for _, name, group in sorted(found):
            self._lobes[group][name] = None

    @property
    def side(self) -> str | None:
        """Side of the lesion, one of ``findings.SIDES``."""
        sides = next(filter(None, self._sides), set())
        if "bilateral" in sides or {"left", "right"} <= sides:
            return "bilateral"
        return next((side for side in ("left", "right", "midline") if side in sides), None)

    @property
    def lobes_of_lesion(self) -> tuple[str, ...] | None:
        """The lobes of the lesion, in order of mention."""
        return tuple(next(filter(None, self._lobes), ())) or None


def _spared(before: str, after: str) -> bool:
    return bool(_SPARED_AFTER.match(after) or _SPARED_BEFORE.search(before))


def _verb(before: str, after: str) -> bool:
    """Whether "left" is a verb: "nothing of the tumour is left", "what is left of it"."""
    return bool(_REMAINS.search(before)) and not re.match(r"\s+of\s+(?:the\s+)?midline", after)


def _former(before: str, after: str) -> bool:
    return bool(_FORMER_BEFORE.search(before) or _FORMER_AFTER.match(after))


def _of_other(
    sentence: str, match: re.Match[str], things: list[tuple[int, int, bool]], starts: list[int]
) -> bool | None:
    """Whether a place is that of an incidental finding, of the body or of an operation; ``None`` for neither.

    What a place belongs to is the noun that it modifies ("left maxillary sinus"), or else the last one before it
    ("infarct in the left thalamus"), or else the next one ("in the left thalamus there is an infarct").
    """
    behind = bisect_left(starts, match.end())
    for start, _, other in things[behind : behind + 1]:
        if start - match.end() <= 60 and _STRAIGHT_TO.fullmatch(sentence, match.end(), start):
            return other
    if behind and not re.search(r"[;:]|\bbut\b", sentence[things[behind - 1][1] : match.start()][-200:]):
        return things[behind - 1][2]
    for start, _, other in things[behind : behind + 1]:
        if start - match.end() <= 200 and not re.search(r"[;:]|\bbut\b", sentence[match.end() : start]):
            return other
    return None


def _moved(before: str, after: str, side: str) -> bool:
    """Whether a side is that of a shift, a compression or an operation, and not of the lesion."""
    if side == "midline" and (_MIDLINE_STATE.match(after) or _UNCROSSED.search(before)):
        return True
    if _OF_LESION.match(after):
        return False
    if _OF_VENTRICLE.match(after) and not _AT_VENTRICLE.search(before):
        return True
    return bool(_MOVED_AFTER.match(after) or _MOVED_BEFORE.search(before))
