"""The patterns and thresholds that tell series apart, as data.

Patterns are searched in descriptions after ``normalise``: lower case, words between single spaces, "w/o" spelt out,
"+" and "*" kept. The first pattern that matches decides, so the order matters: "T1 FLAIR" is T1-weighted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """A pattern in a description, and its meaning."""

    pattern: re.Pattern[str]
    meaning: str


def _table(*rows: tuple[str, str]) -> tuple[Words, ...]:
    return tuple(Words(re.compile(pattern), meaning) for pattern, meaning in rows)


LEFT_OUT_WORDS = _table(
    (
        r"\bloc\b|\blocali[sz]er|\bscout|\bsurvey\b|\b(3|three) ?pl(ane)?s?\b|\bsmart ?brain\b|\bplan scan\b",
        "a localiser",
    ),
    (r"\bcalib|\basset cal|\bcal\b|\bshim|\b(b1|b0|field) ?map|\bcoil\b|\bref(erence)? ?scan", "a calibration scan"),
    (r"\b(dwi|dti|dki|adc|eadc|dadc|trace\w*|tensor|ivim|noddi)\b|\bdiff|\bcolfa\b|\bfa( map)?$", "diffusion-weighted"),
    (r"\bb ?(0|50|[1-9]\d{2,3})\b", "diffusion-weighted"),
    (r"\b(perf\w*|pwi|dsc|dce|asl|pc?asl|r?el ?cb[fv]|r?cb[fv]|mtt|ttp|tmax|k ?trans|twist)\b", "perfusion"),
    (r"\b(f ?mri|bold|resting|rest state)\b", "functional MRI"),
    (r"\b(mrs|spectro\w*|svs|csi|press|mre|elasto\w*)\b", "spectroscopy or elastography"),
    (r"\b(tof|mra|mrv|cemra|tricks|inhance)\b|\bangio|\bvenogra|\bphase contrast\b", "angiography"),
    (r"^(?!.*t1).*\b3d ?pc\b", "angiography"),  # for a T1, "pc" means "post contrast"
    (r"\b(mip|mips|min ?ip|max ?ip)\b|\bprojection", "a projection"),
    (
        r"\b(swi|swan|swip|qsm|venobold|hemo|haemo|medic|merge)\b|\bt2w?(\*| ?star)|\bt2w? ?(ffe|gre|hemo)\b",
        "susceptibility-weighted",
    ),
    (r"\b(pha|phase|mag|magnitude)$|\bmag images|\bpha images", "a part of a complex image"),
    (r"^(?!.*t1).*\b(gre|ffe|fl2d|fgre)\b", "susceptibility-weighted"),
    (r"\bsub(s|tr\w*)?\b|\bminus\b", "a subtraction"),
    (r"\bmaps?\b|\bmapping\b|\bt[12]map|\br2 ?star|\bstats?\b", "a parametric map"),
    (r"\b(fused|fusion|overlay|screen ?save|screen ?shot|capture|report|summary|phoenix\w*|rgb|dose)\b", "no MR image"),
    (r"\binv ?[12]\b", "one inversion of an MP2RAGE"),
    (r"\bstir\b", "STIR"),
    (r"\b(ciss|fiesta|trufi|true ?fisp|b ?ffe|b ?tfe)\b|^(?!.*tse).*\bdrive\b", "a heavily T2-weighted gradient echo"),
    (
        r"\b[ctl] ?spine\b|\b(cervical|thoracic|lumbar|iacs?|pituitary|sella|neck|tmj|orbits?|spine)\b",
        "not of the brain",
    ),
    (r"^(?!.*t[12]).*\b(pdw?|proton)\b", "proton-density-weighted"),
)

# "T1 FLAIR" also nulls fluid, but is T1-weighted; a TIRM may be either.
WEIGHTING_WORDS = _table(
    (r"t1w? ?(\w+ )?(flair|tirm)|flair ?t1|tirm ?t1", "t1"),
    (r"flair|\bda(rk)? ?fl(uid)?\b|\btirm\b|\bspir?cir\b", "flair"),
    (r"t1(?![0-9*])|mp ?-?rage|\bmpr\b|\bbravo\b|\bf?spgr\b|\bvibe\b|\bthrive\b|\blava\b", "t1"),
    (r"t2(?![0-9*])", "t2"),
    (r"\btfe\b|\btfl\b|\bfl3d\b|\birfspgr\b", "t1"),
)

FAT_SUPPRESSED_WORDS = re.compile(r"\b(fs|fat ?sat|fatsat|spair|spir|fatsup\w*|dixon|fsat)\b")

# Values of ImageType, from the third on.
LEFT_OUT_IMAGE_TYPES = {
    "LOCALIZER": "a localiser",
    "ADC": "an ADC map",
    "EADC": "an ADC map",
    "FA": "a diffusion map",
    "TRACEW": "diffusion-weighted",
    "DIFFUSION": "diffusion-weighted",
    "TENSOR": "diffusion-weighted",
    "PERFUSION": "perfusion",
    "ASL": "perfusion",
    "MIP": "a projection",
    "MIN IP": "a projection",
    "MNIP": "a projection",
    "PROJECTION IMAGE": "a projection",
    "SUBTRACTION": "a subtraction",
    "SUB": "a subtraction",
    "P": "a phase image",
    "PHASE MAP": "a phase image",
    "SWI": "susceptibility-weighted",
    "T1 MAP": "a parametric map",
    "T2 MAP": "a parametric map",
    "T2_STAR MAP": "a parametric map",
    "R2_MAP": "a parametric map",
    "CSA REPORT": "no MR image",
    "SCREEN SAVE": "no MR image",
    "VOLREN": "a rendering",
    "VOLUME_RENDER": "a rendering",
}
# In the description of a reformat, "MPR" means reformat. In that of an original, it is Siemens' short for MPRAGE.
REFORMAT_WORD = re.compile(r"\bmpr\b")
REFORMATS = frozenset({"MPR", "REFORMATTED", "RESAMPLED"})

# BodyPartExamined is free text at many sites: only what is known not to show the brain is left out.
HEAD_WORDS = re.compile(
    r"head|brain|skull|crani|crane|cereb|neuro|encephal|kopf|schaedel|schädel|gehirn|\bt[eê]te\b|whole"
)
OTHER_PARTS = re.compile(
    r"spin[ae]|spinal|vertebra|wirbel|sacr|coccyx|neck|hals|cervi|carotid|chest|thora|\blung|breast|mamma|heart|cardi"
    r"|aort|abdom|liver|hepat|pancrea|kidney|renal|spleen|bowel|pelvi|becken|prostat|\buter|\bovar|\brect|bladder|\bhips?\b"
    r"|thigh|femur|knee|knie|\blegs?\b|calf|tibia|ankle|f[uo]ss\b|foot|feet|\btoes?\b|shoulder|schulter|clavic|humer"
    r"|\barms?\b|elbow|wrist|\bhands?\b|finger|extrem|joint|tmj|\bjaw|orbit|\beyes?\b|\bears?\b|\biacs?\b|pituitary"
    r"|\bsella"
)

MIN_SLICES = 12  # fewer do not cover a brain
MIN_COVER_MM = 90.0
THIN_MM = 1.5


@dataclass(frozen=True)
class Timing:
    """One row of the timing table, in ms. Each limit is (low, high), or None for any value.

    Attributes:
        weighting: "t1", "t2", "flair", "t2 or flair", or the name of another kind of series.
        scanning: values of ScanningSequence of which at least one is required; empty if it does not matter.
        without_scanning: values of ScanningSequence that are not allowed.
        inverted: True requires an inversion time, False requires that there is none; None allows both.
    """

    weighting: str
    tr: tuple[float, float] | None = None
    te: tuple[float, float] | None = None
    ti: tuple[float, float] | None = None
    scanning: tuple[str, ...] = ()
    without_scanning: tuple[str, ...] = ()
    inverted: bool | None = None


EVER = float("inf")
TIMINGS = (
    Timing("echo-planar", scanning=("EP",)),
    Timing("STIR", tr=(1500, EVER), ti=(80, 300)),
    Timing("flair", tr=(4000, EVER), te=(60, EVER), ti=(1500, 3500)),
    Timing("flair", tr=(4000, EVER), te=(60, EVER), scanning=("IR",), inverted=False),
    Timing("t1", te=(0, 40), ti=(250, 1450)),
    Timing("t1", tr=(0, 40), te=(0, 12), without_scanning=("SE",)),
    Timing("susceptibility-weighted", tr=(0, 1500), te=(12, 60), scanning=("GR",)),
    Timing("t1", tr=(200, 1200), te=(0, 35)),
    Timing("proton-density-weighted", tr=(1500, EVER), te=(0, 40), inverted=False, without_scanning=("GR",)),
    Timing("t2", tr=(1800, 4500), te=(60, EVER), inverted=False),
    Timing("t2", tr=(4500, EVER), te=(60, EVER), inverted=False, scanning=("SE",), without_scanning=("IR",)),
    Timing("t2 or flair", tr=(4500, EVER), te=(60, EVER), inverted=False),
)


def normalise(text: str) -> str:
    """Return ``text`` in lower case, with single spaces between words and "w/o" spelt out; "+" and "*" stay."""
    text = re.sub(r"\bw ?/ ?o\b", " without ", text.lower())
    text = re.sub(r"\bw/", " with ", text)
    return " ".join(re.sub(r"[^\w+*äöüéè]|_", " ", text).split())
