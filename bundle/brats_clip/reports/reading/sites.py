"""Locate the tumour in a report: the sides and lobes that it names, and what they refer to."""

from __future__ import annotations

import re
from bisect import bisect_left

from ..findings import LOBES
from .negation import near
from .site_cues import LESION, is_displaced, is_former, is_normal, is_verb

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

# Words within this many characters decide what a place refers to.
_REACH = 160
# A lesion on the left may compress the right ventricle.
_VENTRICLE = re.compile(r"\bventric|\bmass[\s-]effect", re.IGNORECASE)
# "No enhancement on the left": the place of a denied finding is the lesion's only if nothing else states it.
_DENIED_THERE = re.compile(
    r"\b(?:no|without|absence of|neither|nor)\b[^.;,]*\b(?:in|on|at|within|of|around|near)\s(?:the\s)?$", re.IGNORECASE
)

# Nouns that a place may refer to: the tumour or a sign of it, or something else in the head, the body or the past.
_SIGN = (
    rf"{LESION}|nodules?|foc(?:us|i)|abnormalit\w+|signal|hyperintens\w+|(?:non-?)?enhanc\w+|o?edema\w*"
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


class Sites:
    """Collects the sides and lobes that a report names, sentence by sentence."""

    def __init__(self) -> None:
        self.sides: dict[str, None] = {}
        # Places by what they refer to; the first group that is not empty counts. Sides: the lesion, unclear, a denied
        # finding, in a sentence about ventricles, a former lesion. Lobes: the lesion, unclear, a former lesion.
        self._sides: tuple[set[str], ...] = (set(), set(), set(), set(), set())
        self._lobes: tuple[dict[str, None], ...] = ({}, {}, {})

    def add(self, sentence: str) -> None:
        """Add the places that a sentence names."""
        things = [(match.start(), match.end(), bool(match["other"])) for match in _THING.finditer(sentence)]
        starts = [thing[0] for thing in things]
        lesions, unclear, denied, ventricles, past = self._sides
        at_ventricle = bool(_VENTRICLE.search(sentence))
        for name, pattern in _SIDES.items():
            for match in pattern.finditer(sentence):
                before, after = near(sentence, *match.span(), _REACH)
                if is_normal(before, after) or (name == "left" and is_verb(before, after)):
                    continue
                self.sides[name] = None
                other = _of_other(sentence, match, things, starts)
                if other or is_displaced(before, after, name):
                    continue
                if is_former(before, after):
                    past.add(name)
                elif at_ventricle:
                    ventricles.add(name)
                elif _DENIED_THERE.search(before):
                    denied.add(name)
                else:
                    (unclear if other is None else lesions).add(name)
        found = []
        for name, pattern in _LOBES.items():
            for match in pattern.finditer(sentence):
                before, after = near(sentence, *match.span(), _REACH)
                other = _of_other(sentence, match, things, starts)
                if not (other or is_normal(before, after)):
                    found.append((match.start(), name, 2 if is_former(before, after) else int(other is None)))
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


def _of_other(
    sentence: str, match: re.Match[str], things: list[tuple[int, int, bool]], starts: list[int]
) -> bool | None:
    """Whether a place refers to an incidental finding, the body or an operation; ``None`` if that is unclear.

    A place refers to the noun that it modifies ("left maxillary sinus"), else to the last noun before it ("infarct in
    the left thalamus"), else to the next noun ("in the left thalamus there is an infarct").
    """
    behind = bisect_left(starts, match.end())
    for start, _, other in things[behind : behind + 1]:
        if start - match.end() <= 60 and _STRAIGHT_TO.fullmatch(sentence, match.end(), start):
            return other
    if behind and not re.search(r";|\bbut\b", sentence[things[behind - 1][1] : match.start()][-200:]):
        return things[behind - 1][2]
    for start, _, other in things[behind : behind + 1]:
        if start - match.end() <= 200 and not re.search(r";|\bbut\b", sentence[match.end() : start]):
            return other
    return None
