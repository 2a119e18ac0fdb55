"""Wording of places: side and lobes as noun phrases and adjectives."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

LOBAR = ("frontal", "parietal", "temporal", "occipital")
_NOUNS = {
    "insular": ("insula",),
    "deep": ("basal ganglia", "basal ganglia", "deep grey nuclei"),
    "cerebellum": ("cerebellum", "cerebellar hemisphere"),
    "brainstem": ("brainstem", "brain stem"),
}
_ADJECTIVES = {
    "insular": ("insular",),
    "deep": ("basal ganglia", "deep grey matter"),
    "cerebellum": ("cerebellar",),
    "brainstem": ("brainstem",),
}
_COMBINING = {"frontal": "fronto", "parietal": "parieto", "temporal": "temporo", "occipital": "occipito"}
# "frontotemporal" and "temporoparietal" are words, whichever lobe holds more of the lesion.
_COMPOUND_ORDER = ("frontal", "temporal", "parietal", "occipital")
_MAINLY = ("mainly", "mostly", "chiefly", "above all")
_SIDED = {
    "left": ("left", "left", "left-sided"),
    "right": ("right", "right", "right-sided"),
    "bilateral": ("bilateral",),
    "midline": ("midline",),
}


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """Draw one of ``options``."""
    return options[int(rng.integers(len(options)))]


def listing(items: Sequence[str]) -> str:
    """Join as "a", "a and b", "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def noun_place(side: str, lobes: Sequence[str], rng: np.random.Generator, whole: bool = False) -> str:
    """Name a place as a noun phrase with its article, such as "the left frontal lobe as well as the insula".

    ``lobes`` are ordered by their share of the lesion, and the wording may reflect that. Unless ``whole``, it may name
    only the first lobe ("the left hemisphere (mainly the frontal lobe)").
    """
    one_side = side in ("left", "right")
    if len(lobes) == 1:
        first = _names(lobes, side, rng)
        if one_side:
            return f"the {side} {first}" if rng.random() < 0.75 else f"the {first} on the {side}"
        return _unsided(first, side, rng)
    if one_side and not whole and rng.random() < 0.25:
        inside = f"{pick(rng, _MAINLY)} the {_names(lobes[:1], side, rng)}"
        return f"the {side} {_hemisphere(lobes[:1], rng)} ({inside})"
    if side != "midline" and len(lobes) == 2 and set(lobes) <= set(LOBAR) and rng.random() < 0.3:
        return f"the {_compound(lobes)} region {'on both sides' if side == 'bilateral' else f'on the {side}'}"
    if not one_side:
        return _unsided(_names(lobes, side, rng), side, rng)
    if rng.random() < 0.3:
        return f"the {side} {_hemisphere(lobes, rng)} ({_names(lobes, side, rng)})"
    link = pick(rng, ("as well as", "and less so", "and partly", "and to a lesser degree"))
    return f"the {side} {_names(lobes[:1], side, rng)} {link} the {_names(lobes[1:], side, rng)}"


def _hemisphere(lobes: Sequence[str], rng: np.random.Generator) -> str:
    if {"cerebellum", "brainstem"} & set(lobes):
        return "side of the brain"
    return pick(rng, ("hemisphere", "cerebral hemisphere"))


def _names(lobes: Sequence[str], side: str, rng: np.random.Generator) -> str:
    """Return the nouns without an article; all lobar names share one "lobe" or "lobes"."""
    lobar = [lobe for lobe in lobes if lobe in LOBAR]
    # A cerebellar hemisphere lies on one side; the cerebellum lies on both.
    names = [pick(rng, _NOUNS[x] if side in ("left", "right") else _NOUNS[x][:1]) for x in lobes if x not in LOBAR]
    if lobar:
        plural = "s" if len(lobar) > 1 or side == "bilateral" else ""
        names.insert(0 if lobes[0] in LOBAR else len(names), f"{listing(lobar)} lobe{plural}")
    return listing(names)


def _unsided(names: str, side: str, rng: np.random.Generator) -> str:
    if side == "midline":
        return pick(rng, (f"the midline, involving the {names}", f"the {names} in the midline"))
    return pick(rng, (f"the {names} on both sides", f"the {names} in both hemispheres", f"the {names} bilaterally"))


def adjective_place(side: str, lobes: Sequence[str], rng: np.random.Generator) -> str:
    """Name a place as an adjective, such as "left frontotemporal" or "right-sided insular"."""
    named = list(lobes[:2])
    if len(named) == 2 and set(named) <= set(LOBAR) and rng.random() < 0.6:
        return f"{pick(rng, _SIDED[side])} {_compound(named)}"
    words = [lobe if lobe in LOBAR else pick(rng, _ADJECTIVES[lobe]) for lobe in named]
    return f"{pick(rng, _SIDED[side])} {listing(words)}"


def _compound(lobes: Sequence[str]) -> str:
    # "parieto-occipital" keeps its hyphen between two vowels, "frontotemporal" has none.
    first, second = sorted(lobes, key=_COMPOUND_ORDER.index)
    first = _COMBINING[first]
    return f"{first}-{second}" if second[0] == "o" else f"{first}{second}"


def swap_side(text: str) -> str:
    """Swap left and right in any letter case ("Left", "LEFT", "leftward", "Lt."); applying it twice restores the text.

    Hyphenated words ("left-sided", "right-hemispheric") are covered.
    """

    def other(match: re.Match[str]) -> str:
        word = match.group()
        new = {"left": "right", "right": "left", "lt": "rt", "rt": "lt"}[word.lower()]
        if word.isupper():
            return new.upper()
        return new.capitalize() if word[0].isupper() else new

    return re.sub(r"\b(?:left|right)(?=\b|wards?\b)|\b(?:lt|rt)(?=\.)", other, text, flags=re.IGNORECASE)
