"""Write findings as reports and captions, in varied wording."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from ..findings import Findings
from ..places import adjective_place, noun_place, pick
from .phrases import CAPTIONS, REGISTERS
from .phrases.captions import EMPTY_CAPTIONS, ENHANCING
from .phrases.generic import EMPTY
from .sizes import SizeWriter

MIN_WORDS, MAX_WORDS = 40, 160
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(?:cap_)?(\w+?)(?:_cap)?\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeio]|un(?!i))")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_EXTENT = {
    "mild": ("mild", "slight", "limited", "minor"),
    "moderate": ("moderate", "moderately extensive", "medium-grade"),
    "marked": ("marked", "extensive", "pronounced", "widespread"),
}
_SIZES = {
    "small": ("small",),
    "medium-sized": ("medium-sized", "moderately sized"),
    "large": ("large", "bulky", "extensive"),
}
_AMERICAN = (
    ("oedema", "edema"),
    ("tumour", "tumor"),
    ("grey", "gray"),
    ("centred", "centered"),
    ("centre", "center"),
    ("metre", "meter"),
)
# Smallest volume of non-enhancing core that gets a sentence.
_PLAIN_CORE_ML = 1.0


def write_report(
    findings: Findings,
    rng: np.random.Generator,
    register: str | None = None,
    left_out: float = 0.0,
    imprecision: float = 0.0,
) -> str:
    """Write a report of 40 to 160 words that states the findings and nothing else.

    Every report states location, enhancement and oedema, and most of the other findings. All statements are true of
    ``findings``, with lengths rounded to 1 or 5 mm and volumes to two digits; findings that are ``None`` are omitted. A
    size is one to three diameters or a volume: of the core ("mass"), the enhancing part or the whole ("abnormality").

    Args:
        findings: findings to state; without a lesion the report says that the brain is normal.
        rng: chooses register, order, wording, units and spelling.
        register: "prose" (like TextBraTS), "terse" (dictated) or "structured" (one item per line); drawn if ``None``.
        left_out: probability of omitting each finding except the location, in addition; such a report may have fewer
            than 40 words.
        imprecision: standard deviation of the relative error of a stated length; twice as much for volumes.

    Raises:
        KeyError: if ``register`` is not one of these.
    """
    if register is None:
        register = pick(rng, tuple(REGISTERS))
    table = REGISTERS[register]
    if findings.empty:
        order = rng.permutation(len(EMPTY))
        sentences = [_fill(EMPTY[i], {}, rng) for i in order]
        return _spell(_join(_enough(sentences, []), register, rng), rng)

    slots = _slots(findings, rng, imprecision)
    said, spare = _topics(findings, rng)
    if left_out > 0:
        unsaid = {topic for topic in sorted({*said, *spare} - {"location"}) if rng.random() < left_out}
        said, spare = ([topic for topic in topics if topic not in unsaid] for topics in (said, spare))
    sentences = [_fill(pick(rng, table[topic]), slots, rng) for topic in said]
    extra = [_fill(pick(rng, table[topic]), slots, rng) for topic in spare]
    return _spell(_join(_enough(sentences, extra), register, rng), rng)


def caption(findings: Findings, rng: np.random.Generator) -> str:
    """Write one sentence of under 60 CLIP tokens with side, lobes, enhancement and size."""
    if findings.empty:
        return _spell(_fill(pick(rng, EMPTY_CAPTIONS), {}, rng), rng)
    slots = _slots(findings, rng)
    slots["enhancing"] = lambda: pick(rng, ENHANCING[findings.enhancement])
    return _spell(_fill(pick(rng, CAPTIONS), slots, rng), rng)


def _topics(findings: Findings, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Return the topics in the order to state them, and spare ones for a report that is still too short."""
    f = findings
    oedema = "oedema none" if f.oedema == "none" else "oedema"
    rest = [f"enhancement {f.enhancement}", oedema]
    size = "size" if f.tc_ml else "extent"
    optional = [size, "signal", "necrosis" if f.necrosis else "necrosis none"]
    if f.cyst is not None:
        optional.append("cyst" if f.cyst else "cyst none")
    if f.tc_ml == 0:
        optional.append("core none")
    elif f.plain_core_ml >= _PLAIN_CORE_ML:
        rest.append("core")
    if f.mass_effect is not None:
        optional.append(f"mass {f.mass_effect}")
    if f.foci > 1:
        optional.append("foci")
    share = [0.8] * len(optional)
    if f.tc_ml and f.oedema != "none":
        optional.append("extent")
        share.append(0.4)
    if f.et_ml:
        optional.append("enhancement size")
        share.append(0.4)
    keep = rng.random(len(optional)) < share
    rest += [topic for topic, kept in zip(optional, keep, strict=True) if kept]
    spare = [topic for topic, kept in zip(optional, keep, strict=True) if not kept]
    rest = [rest[i] for i in rng.permutation(len(rest))]
    at = 0 if rng.random() < 0.85 else int(rng.integers(len(rest) + 1))
    rest.insert(at, "location")
    # Short reports are extended by repeating findings in other words, as in real reports.
    return rest, [*spare, oedema, "signal", size, f"enhancement {f.enhancement}", "location", oedema, size]


def _slots(f: Findings, rng: np.random.Generator, imprecision: float = 0.0) -> dict[str, Callable[[], str]]:
    sizes = SizeWriter(rng, imprecision)
    core_axes = f.core_axes_mm or ((f.core_diameter_mm,) if f.core_diameter_mm else ())
    whole_axes = f.whole_axes_mm or ((f.diameter_mm,) if f.diameter_mm else ())

    def share() -> str:
        part = f.necrosis_fraction
        words = ("a small part", "a third", "about half", "the larger part", "almost all")
        return words[int(np.searchsorted((0.25, 0.4, 0.6, 0.85), part))]

    def ratio() -> str:
        if f.oedema_ratio is None or f.oedema_ratio < 1.5 or rng.random() < 0.5:
            return ""
        times = round(f.oedema_ratio)
        return f", {_count(times)} times the volume of the core" if times < 10 else ", far larger than the core"

    def ventricle() -> str:
        if f.side in ("left", "right"):
            return f"{f.side} lateral ventricle"
        return "ventricular system"

    def at(lobes: tuple[str, ...]) -> str:
        return f"{pick(rng, ('in', 'in', 'within'))} {noun_place(f.side, lobes[: int(rng.integers(2, 5))], rng)}"

    slots = {
        "at": lambda: at(f.lobes),
        "the": lambda: noun_place(f.side, f.lobes[:4], rng),
        "adj": lambda: adjective_place(f.side, f.lobes, rng),
        "core_at": lambda: at(f.core_lobes or f.lobes),
        "core_adj": lambda: adjective_place(f.side, f.core_lobes or f.lobes, rng),
        "size": lambda: pick(rng, _SIZES[f.size]),
        "tumour_ml": lambda: sizes.volume(f.tc_ml or f.wt_ml),
        "wt": lambda: sizes.volume(f.wt_ml),
        "ncr": lambda: sizes.volume(f.ncr_ml),
        "ed": lambda: sizes.volume(f.ed_ml),
        **sizes.slots("core", core_axes, f.tc_ml),
        **sizes.slots("et", f.enhancement_axes_mm, f.et_ml),
        **sizes.slots("whole", whole_axes, f.wt_ml),
        "extent": lambda: pick(rng, _EXTENT[f.oedema]),
        "ratio": ratio,
        "share": share,
        "ventricle": ventricle,
        "n": lambda: _count(f.foci),
    }
    return slots


def _count(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


def fill_choices(template: str, rng: np.random.Generator) -> str:
    """Resolve every ``[a|b]`` of a template, innermost first, by drawing one of the choices."""
    while "[" in template:
        template = _CHOICE.sub(lambda match: pick(rng, match.group(1).split("|")), template)
    return template


def _fill(template: str, slots: dict[str, Callable[[], str]], rng: np.random.Generator) -> str:
    # "{adj_cap}" and "{cap_at}" only mark the start of a sentence: its first letter is capitalised below.
    text = _SLOT.sub(lambda match: slots[match.group(1)](), fill_choices(template, rng))
    text = _ARTICLE.sub(r"\1n ", re.sub(r" +(?=[ .,;])", "", text))
    return text[0].upper() + text[1:]


def _enough(sentences: list[str], extra: list[str]) -> list[str]:
    def words(parts: list[str]) -> int:
        return sum(len(part.split()) for part in parts)

    kept = list(sentences)
    for sentence in extra:
        if words(kept) >= MIN_WORDS:
            break
        if sentence not in kept:
            kept.append(sentence)
    while words(kept) > MAX_WORDS:
        kept.pop()
    return kept


def _join(sentences: list[str], register: str, rng: np.random.Generator) -> str:
    if register != "structured":
        return " ".join(sentences)
    marker = pick(rng, ("", "", "- ", "{}. ", "{}) "))
    return "\n".join(marker.format(i) + sentence for i, sentence in enumerate(sentences, 1))


def _spell(text: str, rng: np.random.Generator) -> str:
    if rng.random() < 0.6:  # TextBraTS is American
        for british, american in _AMERICAN:
            text = re.sub(british, american, text)
            text = re.sub(british.capitalize(), american.capitalize(), text)
    if rng.random() < 0.3:
        text = text.replace("FLAIR", "Flair")
    return text
