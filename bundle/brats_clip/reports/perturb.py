"""Wrong, partial and empty reports, for training a network and for testing how much it relies on its report.

A perturbation that contradicts a report changes one finding and leaves the rest of the text unchanged, character by
character. ``PERTURBATIONS`` lists all perturbations under one signature.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import InputError
from .negate import negate_enhancement
from .places import pick, swap_side
from .reading import scale_sizes
from .sentences import sentence_spans
from .writing import GENERIC, fill_choices

# Each pair of words is swapped, so that swapping twice restores the text. Combining forms come first.
_REGION_PAIRS = (
    ("fronto", "occipito"),
    ("temporo", "parieto"),
    ("frontal", "occipital"),
    ("temporal", "parietal"),
    ("insula", "cerebellum"),
    ("insular", "cerebellar"),
    ("insular cortex", "cerebellar hemisphere"),
    ("basal ganglia", "brainstem"),
    ("deep grey matter", "brain stem"),
    ("deep gray matter", "brain-stem"),
    ("deep grey nuclei", "hindbrain"),
    ("deep gray nuclei", "hind-brain"),
    ("thalamus", "pons"),
    ("thalamic", "pontine"),
)
_OTHER_REGION = {a: b for pair in _REGION_PAIRS for a, b in (pair, pair[::-1])}
_WORDS = "|".join(sorted((re.escape(word) for word in _OTHER_REGION if word[-1] != "o"), key=len, reverse=True))
_REGION = re.compile(
    rf"(?<![a-z])(?:(?:fronto|occipito|temporo|parieto)(?=[- \x00]?[a-z])|(?:{_WORDS})(?![a-z])(?! horns?\b))",
    re.IGNORECASE,
)

_STEPS = ("tiny", "small", "medium-sized", "large", "very large")
_SIZE_STEP = {word: i for i, word in enumerate(_STEPS)} | {"moderately sized": 2, "bulky": 3, "huge": 4}
_SIZE_WORD = re.compile(
    rf"(?<![\w-])(?:{'|'.join(sorted(_SIZE_STEP, key=len, reverse=True))})"
    r"(?![\w-]| part\b| mass effect\b| [\w ]{0,20}\brim\b)",
    re.IGNORECASE,
)


def swap_region(text: str) -> str:
    """Swap frontal with occipital, temporal with parietal, insula with cerebellum, basal ganglia with brainstem.

    Horns of the ventricles keep their names. Applying it twice restores the text.
    """

    def other(match: re.Match[str]) -> str:
        word = match.group()
        new = _OTHER_REGION[word.lower()]
        if word.isupper():
            return new.upper()
        return new[0].upper() + new[1:] if word[0].isupper() else new

    # "frontotemporal" has no separator between its halves: a marker lets one pass find both.
    marked = re.sub(r"(?i)\b(fronto|occipito|temporo|parieto)(?=[a-z])", "\\1\x00", text)
    return _REGION.sub(other, marked).replace("\x00", "")


def scale_size(text: str, factor: float) -> str:
    """Multiply every length by ``factor`` and every volume by its cube, and adapt the words for size.

    Only numbers before a unit (mm, cm, ml, cc, cm3) change, including ranges and products ("3 x 2.5 cm"). They keep
    their number of decimals. Words such as "small" and "large" move one step up or down.

    Raises:
        InputError: if ``factor`` is not positive.
    """
    text = scale_sizes(text, factor)

    def resized(match: re.Match[str]) -> str:
        step = _SIZE_STEP[match.group().lower()] + (1 if factor > 1 else -1)
        if not 0 <= step < len(_STEPS):
            return match.group()
        return _STEPS[step].capitalize() if match.group()[0].isupper() else _STEPS[step]

    return text if factor == 1 else _SIZE_WORD.sub(resized, text)


def drop_sentences(text: str, rng: np.random.Generator, keep: float = 0.5) -> str:
    """Keep a random share of the sentences (at least one), in order, with their numbers and line breaks.

    Raises:
        InputError: if ``keep`` is not between 0 and 1.
    """
    if not 0 <= keep <= 1:
        raise InputError("keep", repr(keep), "a share from 0 to 1")
    spans = sentence_spans(text)
    if not spans:
        return text
    kept = set(rng.permutation(len(spans))[: max(1, round(keep * len(spans)))].tolist())
    # The text before a sentence (its number, the line break) belongs to it.
    starts = [0, *(end for _, end in spans[:-1])]
    pieces = [text[start:end] for i, (start, (_, end)) in enumerate(zip(starts, spans, strict=True)) if i in kept]
    return "".join(pieces).strip()


def generic_report(rng: np.random.Generator) -> str:
    """Write a report that is true of any glioma and specific to none."""
    order = rng.permutation(len(GENERIC))[: int(rng.integers(4, 7))]
    sentences = [fill_choices(GENERIC[i], rng) for i in order]
    return " ".join(sentences)


def another_patients(reports: Sequence[str], rng: np.random.Generator, not_index: int) -> str:
    """Draw the report of another patient.

    Raises:
        InputError: if no report differs from that of ``not_index``.
    """
    others = [report for i, report in enumerate(reports) if i != not_index and report != reports[not_index]]
    if not others:
        raise InputError("reports", f"{len(reports)} reports, none of another patient", "two different reports or more")
    return pick(rng, others)


PERTURBATIONS: dict[str, Callable[[str, np.random.Generator, Sequence[str]], str]] = {
    "none": lambda text, rng, others: "",
    "partial": lambda text, rng, others: drop_sentences(text, rng, keep=0.5),
    "generic": lambda text, rng, others: generic_report(rng),
    "another_patient": lambda text, rng, others: another_patients([text, *others], rng, not_index=0),
    "flip_side": lambda text, rng, others: swap_side(text),
    "negate_enhancement": lambda text, rng, others: negate_enhancement(text, rng),
    "swap_region": lambda text, rng, others: swap_region(text),
    "scale_up": lambda text, rng, others: scale_size(text, 2),
    "scale_down": lambda text, rng, others: scale_size(text, 0.5),
}
"""Every perturbation by name: ``f(text, rng, others) -> text``.

``text`` is the true report, ``rng`` makes the random choices, ``others`` are reports of other patients (used only by
"another_patient", which raises InputError if there are none). "none" removes the report, "partial" removes half of its
sentences; "generic" and "another_patient" replace it; each of the rest contradicts it in one finding.
"""
