"""Encode findings as numbers for a network: one row per finding, from a report or from a label map."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .findings import ENHANCEMENTS, LOBES, MASS_EFFECTS, OEDEMAS, SIDES, Findings
from .reading import SIZED_PARTS, read_findings, volume_of

FINDING_SLOTS = (
    "side",
    "lobes",
    *(f"{part} size" for part in SIZED_PARTS),
    "enhancement",
    "necrosis",
    "cyst",
    "oedema",
    "multiplicity",
    "mass effect",
)
"""The K rows of ``finding_features``."""

FEATURES = 9
"""F, the length of a row; shorter rows are padded with zeros."""

# log(mm) and log(ml) are centred on a typical tumour and divided by about their standard deviation.
_TYPICAL_MM, _SPREAD_MM = 30.0, 0.8
_TYPICAL_ML, _SPREAD_ML = 20.0, 1.5
_SMALLEST_ML = 0.01


def finding_features(findings: Findings | dict[str, Any] | str) -> tuple[np.ndarray, np.ndarray]:
    """Encode findings as numbers, the same way whether they come from a text or from a label map.

    Args:
        findings: ``Findings``, the result of ``read_findings``, or a report, which is read first.

    Returns:
        ``(K, F)`` float32, one row per name in ``FINDING_SLOTS``, and ``(K,)`` bool, False for unknown findings,
        whose rows are 0. The rows hold:

        - side: one-hot, in the order of ``findings.SIDES``.
        - lobes: 1 for each named lobe, in the order of ``findings.LOBES``.
        - sizes (core TC, enhancement ET, necrosis NCR, oedema ED, whole WT): log volume, as stated or estimated from
          the stated diameters, for an unstated whole that of core and oedema; logs of the three diameters, longest
          first, and of the stated volume, 0 where not stated; then for each of these four 1 if it is stated, else 0.
          Logs are ``ln(mm / 30) / 0.8`` and ``ln(ml / 20) / 1.5``, about -2 to 2.
        - enhancement: absent, present, then its pattern in the order of ``findings.ENHANCEMENTS[1:]``; a rim of
          unknown thickness is half thin and half thick.
        - necrosis: absent, present, whether its share of the core is stated, that share.
        - cyst: absent, present.
        - oedema: absent, present, mild, moderate, marked.
        - multiplicity: single, multiple, whether the number of foci is stated, its natural logarithm.
        - mass effect: absent, present, mild, marked.
    """
    if isinstance(findings, str):
        findings = read_findings(findings)
    values = stated(findings) if isinstance(findings, Findings) else findings
    rows: dict[str, list[float] | None] = {
        "side": _one_hot(values["side"], SIDES),
        "lobes": [float(name in values["lobes"]) for name in LOBES] if values["lobes"] else None,
        "enhancement": _enhancement(values),
        "necrosis": _presence(values["necrosis"], _number(values["necrosis_share"])),
        "cyst": _presence(values["cyst"], []),
        "oedema": _presence(values["oedema"], _one_hot(values["oedema_extent"], OEDEMAS[1:], [0.0] * 3)),
        "multiplicity": _presence(values["multiple"], _number(values["foci"], math.log)),
        "mass effect": _presence(
            values["mass_effect"], _one_hot(values["mass_effect_extent"], MASS_EFFECTS[1:], [0.0] * 2)
        ),
        **{f"{part} size": _size(part, values["sizes"] or {}) for part in SIZED_PARTS},
    }
    features = np.zeros((len(FINDING_SLOTS), FEATURES), np.float32)
    known = np.array([rows[name] is not None for name in FINDING_SLOTS])
    for row, name in zip(features, FINDING_SLOTS, strict=True):
        numbers = rows[name] or []
        row[: len(numbers)] = numbers
    return features, known


def stated(findings: Findings) -> dict[str, Any]:
    """Return what ``read_findings`` would for a report that states all of these findings, unrounded."""
    f = findings
    enhances = f.enhancement != "none"
    axes = {"core": f.core_axes_mm, "enhancement": f.enhancement_axes_mm, "whole": f.whole_axes_mm}
    volumes = {"core": f.tc_ml, "enhancement": f.et_ml, "necrosis": f.ncr_ml, "oedema": f.ed_ml, "whole": f.wt_ml}
    sizes = {
        part: {"mm": tuple(sorted(axes.get(part, ()), reverse=True)), "ml": volumes[part]}
        for part in SIZED_PARTS
        if volumes[part] >= _SMALLEST_ML
    }
    known = not f.empty
    return {
        "side": f.side,
        "sides": (f.side,) if known else None,
        "lobes": f.lobes or None,
        "enhancement": "present" if enhances else "absent",
        "necrosis": f.necrosis,
        "oedema": f.oedema != "none",
        "mass_effect": None if f.mass_effect is None else f.mass_effect != "none",
        "cyst": f.cyst,
        "enhancement_pattern": f.enhancement,
        "oedema_extent": f.oedema,
        "mass_effect_extent": f.mass_effect,
        "necrosis_share": f.necrosis_fraction if f.necrosis else None,
        "multiple": f.foci > 1 if f.foci else None,
        "foci": f.foci or None,
        "sizes": sizes or None,
    }


def _one_hot(value: str | None, names: tuple[str, ...], unknown: list[float] | None = None) -> list[float] | None:
    return unknown if value is None else [float(value == name) for name in names]


def _presence(value: bool | None, more: list[float]) -> list[float] | None:
    return None if value is None else [float(not value), float(value), *(more if value else [0.0] * len(more))]


def _number(value: float | None, scale=float) -> list[float]:
    return [0.0, 0.0] if value is None else [1.0, float(scale(value))]


def _enhancement(values: dict[str, Any]) -> list[float] | None:
    if values["enhancement"] is None:
        return None
    pattern = values["enhancement_pattern"]
    present = values["enhancement"] == "present"
    if pattern == "rim":
        patterns = [0.5 * name.endswith("rim") for name in ENHANCEMENTS[1:]]
    else:
        patterns = _one_hot(pattern, ENHANCEMENTS[1:], [0.0] * 5)
    return [float(not present), float(present), *patterns]


def _size(part: str, sizes: dict[str, dict[str, Any]]) -> list[float] | None:
    size = sizes.get(part)
    if size is None:
        if part != "whole" or not {"core", "oedema"} <= sizes.keys():
            return None
        return [_log_ml(sum(_ml(name, sizes[name]) for name in ("core", "oedema")))]
    mm, ml = size["mm"], size["ml"]
    lengths = [math.log(max(value, 0.1) / _TYPICAL_MM) / _SPREAD_MM for value in mm] + [0.0] * (3 - len(mm))
    volume = _log_ml(ml) if ml is not None else 0.0
    return [
        _log_ml(_ml(part, size)),
        *lengths,
        volume,
        *(float(i < len(mm)) for i in range(3)),
        float(ml is not None),
    ]


def _ml(part: str, size: dict[str, Any]) -> float:
    return volume_of(part, size["mm"]) if size["ml"] is None else size["ml"]


def _log_ml(ml: float) -> float:
    return math.log(max(ml, _SMALLEST_ML) / _TYPICAL_ML) / _SPREAD_ML
