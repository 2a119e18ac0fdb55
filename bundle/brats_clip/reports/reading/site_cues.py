"""Classify a side or a lobe by the words around it: normal, of a shift, of a former lesion, or no side at all."""

from __future__ import annotations

import re

_REMAINS = re.compile(
    r"\b(?:of|nothing|little|what|much|remnants?|tissue)\b[^.;,]{0,40}\b(?:is|was|are|were|be|been|has|have|had)\s$"
    r"|\b(?:patient|s?he|who|they)\s(?:has\s|had\s)?$",
    re.IGNORECASE,
)
# A side or a lobe that is stated to be normal.
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
    rf"(?:(?:[\s,]*(?:in|on|of|to|within|{_PLACE_WORD})\b)*[\s,]*|{_NO_VERB})"
    rf"|\b(?:unremarkable|normal(?: (?:appearance|signal|aspect|size|morphology"
    rf"|structure))?)\b(?:,?\s*(?:in|{_PLACE_WORD})\b)*\s|\bnot\s(?:on\s|in\s)?(?:the\s)?"
    r"|\bno (?:[\w-]+ )?(?:lesions?|mass(?:es)?|tumou?rs?)\s)$",
    re.IGNORECASE,
)

# The side of a shift, a compression or an operation is not the lesion's: "shift to the right", "compression of the
# right", "5 mm to the right". In "compression by a mass on the right" it is.
LESION = r"mass(?:es)?(?![\s-]effect)|tumou?rs?|lesions?|neoplasms?|\w*gliomas?|\w*blastomas?|\w*cytomas?|metastas\w+"
_CAUSE = rf"by|due|because|caus\w*|account|owing|results?|resulting|and|with|in|within|{LESION}"
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
    rf"\s(?:{LESION})\b",
    re.IGNORECASE,
)
# "The midline is central", "midline not shifted".
_MIDLINE_STATE = re.compile(
    r"^(?:\s*[:=]|\s+(?:(?:is|was|appears|remains|seems)\b|not\b|central|cent(?:re|er)ed|shifted|displaced|deviated))",
    re.IGNORECASE,
)
_UNCROSSED = re.compile(r"\b(?:not|no|without|never)\b[^.;,]{0,30}\bcross\w*(?:\sof)?\sthe\s$", re.IGNORECASE)
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


def is_normal(before: str, after: str) -> bool:
    """Return whether a place is stated to be normal."""
    return bool(_SPARED_AFTER.match(after) or _SPARED_BEFORE.search(before))


def is_verb(before: str, after: str) -> bool:
    """Return whether "left" is a verb form: "nothing of the tumour is left", "what is left of it"."""
    return bool(_REMAINS.search(before)) and not re.match(r"\s+of\s+(?:the\s+)?midline", after)


def is_former(before: str, after: str) -> bool:
    """Return whether a place is that of a lesion that was resected, disappeared, or was seen in an earlier study."""
    return bool(_FORMER_BEFORE.search(before) or _FORMER_AFTER.match(after))


def is_displaced(before: str, after: str, side: str) -> bool:
    """Return whether a side is that of a shift, a compression or an operation, not of the lesion."""
    if side == "midline" and (_MIDLINE_STATE.match(after) or _UNCROSSED.search(before)):
        return True
    if _OF_LESION.match(after):
        return False
    if _OF_VENTRICLE.match(after) and not _AT_VENTRICLE.search(before):
        return True
    return bool(_MOVED_AFTER.match(after) or _MOVED_BEFORE.search(before))
