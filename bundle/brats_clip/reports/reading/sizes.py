"""Read sizes from a report: find the measurements, and the part of the tumour that each belongs to."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import InputError

SIZED_PARTS = ("core", "enhancement", "necrosis", "oedema", "whole")
"""Parts with sizes: TC, ET, NCR (necrotic or other non-enhancing core), ED, WT (oedema included)."""

_VOLUME_UNIT = (
    r"(?:ml|cc|ccm|millilit(?:re|er)s?|(?:mm|cm)(?:\s*\^?\s*3|³)|cubic\s+(?:milli|centi)met(?:re|er)s?|c\.c\.)"
)
_LENGTH_UNIT = r"(?:mm|cm|millimet(?:re|er)s?|centimet(?:re|er)s?)"
_UNIT = rf"(?:{_VOLUME_UNIT}|{_LENGTH_UNIT})"
_NUMBER = r"\d{1,4}(?:[.,]\d{1,3})?"
# "AP", "(TR)", "in craniocaudal extent": words that may follow a diameter and name its direction.
_DIRECTION = (
    r"ap|cc|tr|tv|si|lr|rl|antero-?posterior(?:ly)?|(?:cranio-?caudal|transvers|superior-?inferior|supero-?inferior"
    r"|left-right|right-left|medio-?lateral|axial|sagittal|coronal)(?:ly|e)?"
    r"|deep|wide|high|tall|long|length|width|height|depth"
)
_LINK = rf"\s*(?:\(?(?:{_DIRECTION})\)?\s*)?(?:[x\xd7*]|by|mal|por|sur|per)\s*"
_RANGE = r"\s*(?:-|\u2013|to)\s*"
MEASURE = re.compile(
    rf"(?<![\w.,])(?P<numbers>{_NUMBER}(?:(?:\s*{_LENGTH_UNIT})?{_LINK}{_NUMBER}){{0,2}}(?:{_RANGE}{_NUMBER})?)"
    rf"\s*(?:\((?:{_DIRECTION})\)\s*)?(?P<unit>{_UNIT}\s*(?:\^?2|²)?)(?!\w)",
    re.IGNORECASE,
)
_ONE_NUMBER = re.compile(_NUMBER)
_IS_VOLUME = re.compile(_VOLUME_UNIT, re.IGNORECASE)

_MASS = (
    r"mass(?:es)?(?![\s-]effect)|tumou?rs?|lesions?|neoplasms?|\w*gliomas?|\w*blastomas?|\w*cytomas?"
    r"|metastas[ie]s|process"
    r"|nodules?|foc(?:us|i)|gbm"
)
_ENHANCING = r"(?<!non[ -])(?:(?:rim-|ring-|contrast-)?enhanc\w+|contrast uptake|ET)"
_PART = r"(?:core|cent(?:re|er)|part|cavity|zone|portion|component|area|tissue|tumou?r)"
_WITH = r"(?:with|including|incl\.|counting|together with)\s+(?:the\s+|its\s+|all\s+)?(?:(?:surrounding|peri\w+)\s+)?"
# A later pattern overrides an earlier one that it overlaps: "enhancing mass" is about the core, "enhancing rim" is not.
_SUBJECTS = (
    ("core", rf"\b(?:{_MASS}|core|main finding|size|dimensions?|solid part)\b"),
    ("enhancement", rf"\b{_ENHANCING}\b(?:[\s-]+(?:\w+[\s-]+)?(?:nodules?|foc(?:us|i)|tumou?r|{_PART}))?"),
    (
        "enhancing mass",
        rf"\b{_ENHANCING}[\s-]+(?:\w+[\s-]+){{0,2}}?(?:mass(?:es)?(?![\s-]effect)|lesions?|neoplasms?|core"
        rf"|\w*gliomas?)\b",
    ),
    ("necrosis", rf"\bnecro(?:sis|tic)\b(?:[\s-]+{_PART})?|\bcyst(?:s|ic)?\b(?:[\s-]+{_PART})?|\bNCR\b"),
    ("necrosis", rf"\bnon-?\s?enhancing\b(?:(?:[\s-]+\w+){{0,2}}[\s-]+{_PART}\b)?"),
    ("oedema", r"\b(?:(?:surrounding|peri\w+|vasogenic)\s+)*o?edema\b"),
    ("whole", r"\b(?:whole|total|entire|overall)[\s-]+(?:tumou?r|lesion|abnormality|extent|volume|area)\b"),
    (
        "whole",
        r"\b(?:FLAIR|T2)\b[\s-]*(?:(?:/|and|-)\s*(?:T2|FLAIR)\b)?[\s-]*(?:\w+[\s-]+){0,2}?"
        r"(?:abnormality|hyperintens\w+|signal|changes?|alteration|lesion|extent|area)\b",
    ),
    (
        "whole",
        r"\b(?:abnormal|altered|high|hyperintense|infiltrat\w+)\s+(?:signal|area|zone|tissue)\b"
        r"|\bsignal\s+(?:abnormality|changes?|alteration)\b|\babnormality\b|\binfiltration\b|\bWT\b",
    ),
    ("whole", rf"\b{_WITH}surroundings\b|\b(?!with ){_WITH}o?edema\b|\bas a whole\b|\bo?edema included\b"),
)
_SUBJECTS = tuple((part, re.compile(pattern, re.IGNORECASE)) for part, pattern in _SUBJECTS)
_WHOLE_AFTER = re.compile(
    rf"[^;,]{{0,60}}?[,(]?\s*(?:(?!with ){_WITH}|with\b[^,;.]*\bincluded|as a whole)", re.IGNORECASE
)
# A measurement before its noun: "a 4.5 cm left frontal mass", "30 ml of enhancing tumour".
_NO_ADJECTIVE = (
    "in|on|with|and|at|of|by|from|is|are|was|were|has|within|without|which|that|the|to|for|around|near|next|but|or"
)
_PREMODIFIER = re.compile(rf"(?:[\s-]+of)?(?:[\s,]+(?!(?:{_NO_ADJECTIVE})\b)[\w/-]+){{0,5}}?[\s-]+", re.IGNORECASE)
# Measurements that are not current sizes of the tumour.
_AGENT = r"gadolinium|gadovist|gadobutrol|dotarem|gadoter\w+|contrast (?:agent|medium|material)"
_OTHER_THING = r"cavity|infarct|meningioma|aneurysm|sinus|pineal cyst|arachnoid cyst|ventricle|margin|band"
_OTHER_BEFORE = re.compile(
    r"\b(?:shift\w*|displac\w*|deviat\w*|herniat\w*|distance|slices?|sections?|thickness|thick|spacing|gap|matrix|fov|"
    r"voxels?|resolution|previous(?:ly)?|prior|formerly|earlier|was|were|compared (?:to|with)|versus|vs\.?|from|then|"
    rf"{_AGENT}|injection of|administration of|(?:{_OTHER_THING})\b[^.;,]{{0,20}})"
    r"\s*(?:(?:by|of|is|:|up to|about|approximately|approx\.?|measur\w+|now|at|\(|,)\s*)*(?:an?|the)?\s*$",
    re.IGNORECASE,
)
_OTHER_AFTER = re.compile(
    r"\s*(?:\)\s*)?(?:(?:of|to|in)\s+)?(?:the\s+)?(?:\w+ward\s+|\w+-to-\w+\s+|right\s+|left\s+)?"
    r"(?:midline|shift|subfalcine|thick\b|thickness|slices?|sections?|slab|gap|herniation|displacement|above|below|"
    r"(?:lateral|medial|anterior|posterior|superior|inferior) to|from\b|away|distant|beyond|"
    rf"(?:(?!along|in|at|of|near|by|adjacent|next|beside|to|within)[\w-]+\s+){{0,2}}(?:{_AGENT}"
    rf"|{_OTHER_THING})|in\s+(?:19|20)\d\d|i\.?v\.?\b|previously|prior|before|"
    r"on the prior)",
    re.IGNORECASE,
)
_MOVED_BEFORE = re.compile(
    r"\b(?:shift|displac|deviat|herniat|push)\w*\b(?:(?!\b(?:mass|tumou?r|lesion|core|glio\w+|and|with|due|caused)\b)[^.;,]){0,50}$",
    re.IGNORECASE,
)
_DIRECTED = re.compile(rf"\s*(?:\(|in\s+)?(?:the\s+)?(?:{_DIRECTION})\b", re.IGNORECASE)
_DIRECTED_BEFORE = re.compile(rf"\b(?:{_DIRECTION})(?:\s+(?:extent|extension|diameter|dimension))?\W*$", re.IGNORECASE)
_NEAR = 200


@dataclass(frozen=True)
class Measurement:
    """A size in a text: its span from ``start`` to ``end``, and either diameters in mm or a volume in ml."""

    start: int
    end: int
    mm: tuple[float, ...] = ()
    ml: float | None = None


def measurements(text: str) -> Iterator[Measurement]:
    """Yield every length and volume in a text, in any usual unit; areas are skipped, ranges are averaged."""
    for match in MEASURE.finditer(text):
        unit = match["unit"].lower()
        values = [float(number.replace(",", ".")) for number in _ONE_NUMBER.findall(match["numbers"])]
        if re.search(_RANGE + _NUMBER + "$", match["numbers"], re.IGNORECASE) and len(values) > 1:
            values[-2:] = [(values[-2] + values[-1]) / 2]
        if re.search(r"(?:2|²)$", unit):
            continue
        if _IS_VOLUME.fullmatch(unit.strip()):
            if len(values) == 1 and values[0] > 0:
                yield Measurement(*match.span(), ml=values[0] / (1000 if unit.startswith(("mm", "cubic milli")) else 1))
            continue
        # Each number may have its own unit ("4.5 cm x 32 mm"); otherwise the last unit applies to all.
        scale = 1.0 if unit.startswith(("mm", "milli")) else 10.0
        mm = []
        for number in _ONE_NUMBER.finditer(match["numbers"]):
            own = re.match(r"\s*(mm|milli|cm|centi)", match["numbers"][number.end() :], re.IGNORECASE)
            by = {"m": 1.0, "c": 10.0}[own[1][0].lower()] if own else scale
            mm.append(float(number[0].replace(",", ".")) * by)
        if len(mm) > len(values):
            mm[-2:] = [(mm[-2] + mm[-1]) / 2]
        if all(0 < value <= 250 for value in mm):
            yield Measurement(*match.span(), mm=tuple(mm))


def read_sizes(sentence: str) -> list[tuple[str, Measurement]]:
    """Return the sizes of tumour parts that a sentence states, each with its part, one of ``SIZED_PARTS``.

    A size belongs to the noun right after the number ("a 4 cm mass"), else to the last noun before it. Shifts,
    distances, slice thicknesses, doses and former sizes are skipped. A length of oedema is that of the whole tumour.
    """
    found = list(measurements(sentence))
    subjects = _subjects(sentence) if found else []
    sizes: list[tuple[str, Measurement]] = []
    for size in found:
        before, after = sentence[max(0, size.start - _NEAR) : size.start], sentence[size.end : size.end + _NEAR]
        if _OTHER_BEFORE.search(before) or _MOVED_BEFORE.search(before) or _OTHER_AFTER.match(after):
            continue
        part = _part(size, sentence, subjects)
        if part == "enhancing mass":
            part = "core" if size.mm else "enhancement"
        if part == "oedema" and size.mm:
            part = "whole"
        last = sizes[-1] if sizes else (None, size)
        # "4.5 x 3.2 cm, 4.0 cm craniocaudally": the second measurement completes the first.
        goes_on = last[0] == part and len(size.mm) == 1 and len(last[1].mm) in (1, 2)
        directed = _DIRECTED.match(after) or _DIRECTED_BEFORE.search(before)
        if goes_on and directed and size.start - last[1].end < 60:
            sizes[-1] = (part, Measurement(last[1].start, size.end, last[1].mm + size.mm))
        else:
            sizes.append((part, size))
    return sizes


def _subjects(sentence: str) -> list[tuple[int, int, str]]:
    """Return the start, end and part of each measurable part that a sentence names, in order."""
    taken = np.full(len(sentence), -1)
    found: list[tuple[int, int, str]] = []
    for part, pattern in _SUBJECTS:
        for match in pattern.finditer(sentence):
            taken[slice(*match.span())] = len(found)
            found.append((*match.span(), part))
    kept = np.unique(taken)
    return sorted(found[i] for i in kept[kept >= 0])


def _part(size: Measurement, sentence: str, subjects: list[tuple[int, int, str]]) -> str:
    behind = bisect_left(subjects, (size.end,))
    if behind < len(subjects):
        start, _, part = subjects[behind]
        if start - size.end <= 80 and _PREMODIFIER.fullmatch(sentence, size.end, start):
            return part
    if _WHOLE_AFTER.match(sentence, size.end):
        return "whole"
    before = [(end, part) for _, end, part in subjects[max(0, behind - 8) : behind] if end <= size.start]
    if not before:
        return "core"
    part = before[-1][1]
    # "Including oedema, the tumour measures ..."
    return "whole" if part == "core" and any(other == "whole" for _, other in before) else part


def merge_sizes(sizes: list[tuple[str, Measurement]]) -> dict[str, dict[str, Any]] | None:
    """Merge the sizes of a report to ``mm`` (diameters, longest first) and ``ml`` per part; the largest size counts."""
    merged: dict[str, dict[str, Any]] = {}
    for part, size in sizes:
        entry = merged.setdefault(part, {"mm": (), "ml": None})
        mm = tuple(sorted(size.mm, reverse=True))
        # If a diameter is repeated, the size with more axes counts; a smaller one is of another lesion or a detail.
        if mm and (
            not entry["mm"]
            or mm[0] > 1.1 * entry["mm"][0]
            or (mm[0] > 0.9 * entry["mm"][0] and len(mm) > len(entry["mm"]))
        ):
            entry["mm"] = mm
        if size.ml is not None:
            entry["ml"] = max(size.ml, entry["ml"] or 0.0)
    return {part: merged[part] for part in SIZED_PARTS if part in merged} or None


# Volume of each part as a share of the ellipsoid with its one, two or three diameters: medians over 28 labelled scans.
# Oedema is irregular, and much of what lies inside an enhancing rim does not enhance.
_FILLED = {"core": (0.86, 1.0, 0.78), "enhancement": (0.59, 0.65, 0.46), "whole": (0.62, 0.78, 0.66)}


def volume_of(part: str, mm: tuple[float, ...]) -> float:
    """Estimate the volume in ml of a part of ``SIZED_PARTS`` from one to three diameters in mm.

    It is that of an ellipsoid, whose missing diameters follow average proportions, times how much of it the part
    usually fills. Half of the estimates from one diameter are more than 25 to 40 % off.
    """
    axes = sorted(mm, reverse=True)
    while len(axes) < 3:
        axes.append(axes[-1] * (0.75 if len(axes) == 1 else 0.9))
    return _FILLED.get(part, (1.0,) * 3)[len(mm) - 1] * math.pi / 6 * math.prod(axes) / 1000


def scale_sizes(text: str, factor: float) -> str:
    """Multiply every length by ``factor`` and every volume by its cube; numbers keep their decimals.

    Raises:
        InputError: if ``factor`` is not positive.
    """
    if not factor > 0:
        raise InputError("factor", repr(factor), "a positive number")

    def scaled(match: re.Match[str]) -> str:
        by = factor**3 if _IS_VOLUME.fullmatch(match["unit"].strip()) else factor

        def one(number: re.Match[str]) -> str:
            decimals = len(re.split("[.,]", number[0])[1]) if re.search("[.,]", number[0]) else 0
            value = float(number[0].replace(",", ".")) * by
            new = f"{value:.{max(decimals, 1) if value < 1 else decimals}f}"
            return new.replace(".", ",") if "," in number[0] else new

        return match[0].replace(match["numbers"], _ONE_NUMBER.sub(one, match["numbers"]), 1)

    return MEASURE.sub(scaled, text)
