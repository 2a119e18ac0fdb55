"""Names that clients give to segments, and the BraTS tissue or region that each means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brats_clip.labels import ED, ET, NCR

from ..errors import Refused
from .reading import Segment

BACKGROUND = "background"
# Regions painted without overlap are the BraTS tissues: the part of WT outside TC is oedema.
TISSUES = {"NCR": NCR, "ED": ED, "ET": ET}
PAINTED_REGIONS = {"WT": ED, "TC": NCR, "ET": ET}
_SPELLINGS = {
    "NCR": (
        "ncr net|ncr|net|ncrnet|necrosis|necrotic core|necrotic tumor|necrotic tumor core|non enhancing tumor|"
        "non enhancing tumor core|nonenhancing tumor|nonenhancing tumor core|non enhancing core|"
        "necrotic or non enhancing core|necrotic or non enhancing tumor core|necrotic and non enhancing tumor|"
        "necrotic and non enhancing tumor core|necrotic non enhancing tumor core"
    ),
    "ED": (
        "ed|edema|peritumoral edema|peritumoral edematous tissue|invaded tissue|"
        "edema invaded tissue|edema or invaded tissue|snfh|surrounding non enhancing flair hyperintensity"
    ),
    "ET": "et|enhancing|enhancing tumor|enhancing core|enhancing tumor core|gd enhancing tumor|active tumor|at",
    "WT": "wt|whole tumor|complete tumor",
    "TC": "tc|tumor core",
    BACKGROUND: "background|foreground scribbles|background scribbles",
}
_MEANING = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings.split("|")}
# Label values of the app's own answers: the first three as in BraTS; TC and WT as a whole have separate values, so that
# no value has two names.
LABELS: dict[str, int] = {"NCR/NET": NCR, "ED": ED, "ET": ET, "TC": 5, "WT": 6}
_OWN_NUMBERS = {**TISSUES, "TC": LABELS["TC"], "WT": LABELS["WT"], BACKGROUND: 0}
EXPECTED_NAMES = "NCR/NET, ED (or edema) and ET (or enhancing tumour), or the regions WT, TC and ET"


@dataclass(frozen=True)
class Names:
    """Segment names in a request.

    Attributes:
        entries: name and number of each segment; the number is None if only the order was given.
        exact: whether the numbers are voxel values. Slicer's are not if it left out a segment: see ``name_values``.
    """

    entries: tuple[tuple[str, int | None], ...]
    exact: bool


def meaning(name: str) -> str:
    """Return ``NCR``, ``ED``, ``ET``, ``WT``, ``TC`` or ``BACKGROUND`` for a name in any known spelling.

    Raises:
        Refused: for any other name.
    """
    if _plain(name) not in _MEANING:
        raise Refused(f"The label has a segment named {name[:64]!r}; expected {EXPECTED_NAMES}. Rename or remove it.")
    return _MEANING[_plain(name)]


def read_names(params: Mapping[str, Any]) -> Names | None:
    """Return the segment names in the parameters of a request; None without any.

    Accepted formats are ``label_info`` as Slicer sends it, ``[{"name": "ET", "idx": 3}, ...]``, a list of names in the
    order of their values, ``{"ET": 3}``, ``{"3": "ET"}``, and ``label_names`` of an inference result.

    Raises:
        Refused: for any other format.
    """
    result = params.get("params")
    given = params.get("label_info") or (result.get("label_names") if isinstance(result, Mapping) else None)
    if not given:
        return None
    try:
        if isinstance(given, Mapping):
            return Names(tuple(_entry_of_mapping(key, value) for key, value in given.items()), exact=True)
        if isinstance(given, Sequence) and not isinstance(given, str):
            return Names(tuple(_entry_of_list(item) for item in given), exact=False)
    except (TypeError, ValueError, KeyError, OverflowError):
        pass
    raise Refused(
        'The request\'s "label_info" cannot be read; expected a list such as [{"name": "ET", "idx": 3}, ...], with the '
        "name of each segment and its value in the label."
    )


def name_values(names: Names, values: Sequence[int]) -> tuple[Segment, ...]:
    """Assign a name to each value of a one-layer label.

    Slicer's ``idx`` counts all segments from 1; the voxel values count only the exported ones. The two differ if Slicer
    leaves out a segment (the background, the scribbles); the order of the list then gives the values. Numbers that are
    those of BraTS, of any year, are taken as voxel values.

    Raises:
        Refused: if a value has no name, or its name is ambiguous.
    """
    by_order = {place: name for place, (name, _) in enumerate(names.entries, start=1)}
    by_number = {number: name for name, number in names.entries if number is not None}
    numbers = [number for _, number in names.entries]
    found = [value for value in values if value]
    if not by_number:
        chosen = by_order
    elif names.exact or None in numbers or numbers != sorted(set(numbers)) or not set(found) <= set(by_order):
        chosen = by_number
    elif not set(found) <= set(by_number):
        chosen = by_order
    else:
        chosen = by_number
        if not _are_brats(names) and any(by_number[value] != by_order[value] for value in found):
            raise Refused(
                f"The label has the values {found}, which label_info names in two ways: by its numbers they are "
                f"{_listed(by_number, found)}, by its order {_listed(by_order, found)}. Send the names as an object "
                'such as {"ET": 3}, by the values in the label.'
            )
    unnamed = [value for value in found if value not in chosen]
    if unnamed:
        known = _listed(chosen, chosen)
        raise Refused(f"The label has the values {unnamed} that label_info does not name; it names {known}.")
    return tuple(Segment(chosen[value], 0, value) for value in found)


def name_layers(names: Names, count: int) -> tuple[Segment, ...]:
    """Assign a name to each layer, in the order of the list.

    Raises:
        Refused: if the numbers of names and of layers differ.
    """
    if len(names.entries) != count:
        raise Refused(f"The label has {count} layers and label_info {len(names.entries)} names; expected as many.")
    return tuple(Segment(name, layer, 1) for layer, (name, _) in enumerate(names.entries))


def values_of(layers: np.ndarray) -> list[int]:
    """Return the distinct values of a uint16 array, without sorting it."""
    return np.flatnonzero(np.bincount(layers.ravel(order="K"))).tolist()


def _are_brats(names: Names) -> bool:
    """Return whether the numbers are those of BraTS: ET is 4 until 2022, 3 since 2023."""
    return all(
        number == _OWN_NUMBERS.get(meant := _MEANING.get(_plain(name), "")) or (meant, number) == ("ET", 3)
        for name, number in names.entries
    )


def _listed(named: Mapping[int, str], values: Iterable[int]) -> str:
    return ", ".join(f"{value} {named[value][:64]!r}" for value in values)


def _plain(name: str) -> str:
    plain = " ".join(re.sub(r"[^a-z0-9]+", " ", name.lower()).split())
    return re.sub(r"\boedema", "edema", plain.replace("tumour", "tumor"))


def _entry_of_mapping(key: str, value: Any) -> tuple[str, int]:
    if isinstance(value, Mapping):
        return _text(value.get("name", key)), _number(value.get("idx", value.get("value", key)))
    return (_text(value), _number(key)) if isinstance(value, str) and key.isdecimal() else (_text(key), _number(value))


def _entry_of_list(item: Any) -> tuple[str, int | None]:
    if isinstance(item, str):
        return item, None
    number = item.get("idx", item.get("value"))
    return _text(item["name"]), None if number is None else _number(number)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> int:
    if isinstance(value, bool) or int(value) != float(value):
        raise ValueError
    return int(value)
