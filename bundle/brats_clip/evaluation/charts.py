"""Where the marks of the report's charts lie, in SVG units; the template draws them.

SVG made of numbers keeps the page free of libraries, sharp in print, and follows its light or dark colours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..labels import REGIONS
from .summary import Row, statistics

_ROW_HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 64, 46, 14, 8, 38
_WIDTH = 560
_VOLUME_SIZE = 300
_SMALLEST_ML = 0.01
_GOLDEN = (math.sqrt(5) - 1) / 2


def dice_strips(rows: Sequence[Row]) -> dict[str, Any]:
    """Box and dots of Dice per region, one row each, x from 0 to 1; whiskers reach 1.5 interquartile ranges at most."""

    def x(value: float) -> float:
        return round(_LEFT + value * (_WIDTH - _LEFT - _RIGHT), 1)

    strips = []
    for number, region in enumerate(REGIONS):
        middle = _TOP + (number + 0.5) * _ROW_HEIGHT
        values = sorted((row[f"dice_{region}"], row["case"]) for row in rows)
        box = statistics(value for value, _ in values)
        reach = 1.5 * (box["q3"] - box["q1"])
        inside = [value for value, _ in values if box["q1"] - reach <= value <= box["q3"] + reach]
        # The golden ratio spreads neighbours in rank over the height, the same way each time.
        dots = [
            {"x": x(v), "y": round(middle + 34 * ((i * _GOLDEN) % 1 - 0.5), 1), "case": case, "value": v}
            for i, (v, case) in enumerate(values)
        ]
        marks = {name: x(box[name]) for name in ("q1", "median", "q3")} | {"low": x(inside[0]), "high": x(inside[-1])}
        strips.append({"region": region, "y": middle, "dots": dots, **marks})
    height = _TOP + _ROW_HEIGHT * len(strips) + _BOTTOM
    ticks = [{"x": x(t / 10), "text": f"{t / 10:.1f}"} for t in range(0, 11, 2)]
    return {
        "width": _WIDTH,
        "height": height,
        "bottom": height - _BOTTOM,
        "top": _TOP,
        "strips": strips,
        "ticks": ticks,
    }


def volume_scatter(rows: Sequence[Row]) -> dict[str, Any]:
    """Predicted against true volume of each region, both on a logarithmic scale in ml; 0 lies on the border."""
    pairs = [(row["case"], r, row[f"volume_ml_{r}_truth"], row[f"volume_ml_{r}"]) for row in rows for r in REGIONS]
    largest = max([_SMALLEST_ML * 10, *(volume for *_, truth, found in pairs for volume in (truth, found))])
    low, high = math.log10(_SMALLEST_ML), math.ceil(math.log10(largest))
    span = _VOLUME_SIZE - _LEFT - _RIGHT

    def place(volume: float) -> float:
        return span * (math.log10(max(volume, _SMALLEST_ML)) - low) / (high - low)

    dots = [
        {"x": round(_LEFT + place(truth), 1), "y": round(_TOP + span - place(found), 1), "case": case, "region": region,
         "truth": truth, "found": found}
        for case, region, truth, found in pairs if truth or found
    ]  # fmt: skip
    ticks = []
    for power in range(int(low), high + 1):
        text = "0" if power == low else f"{10.0**power:g}"
        ticks.append({"x": _LEFT + place(10.0**power), "y": _TOP + span - place(10.0**power), "text": text})
    edges = {"left": _LEFT, "right": _LEFT + span, "top": _TOP, "bottom": _TOP + span}
    return {"width": _VOLUME_SIZE, "height": _TOP + span + _BOTTOM, "dots": dots, "ticks": ticks, **edges}


def curve_panels(curves: Mapping[str, Sequence[float | None]]) -> list[dict[str, Any]]:
    """Lines over the epochs: one panel for the columns with "loss" in their name, one for those with "dice".

    Args:
        curves: ``epoch`` and any number of columns of the same length; ``None`` where there is no value. Columns of
            another scale, such as the learning rate, are left out.
    """
    epochs = [float(e) for e in curves["epoch"]]
    panels = [{k: v for k, v in curves.items() if kind in k.lower()} for kind in ("loss", "dice")]
    return [_panel(epochs, columns) for columns in panels if columns and epochs]


def _panel(epochs: Sequence[float], columns: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    width, height = 460, 240
    values = [float(v) for column in columns.values() for v in column if _finite(v)]
    low_value, top_value = min([0.0, *values]), _round_up(max([1e-6, *values]))
    right, bottom = width - _RIGHT, height - _BOTTOM

    def x(epoch: float) -> float:
        return round(_LEFT + (right - _LEFT) * (epoch - epochs[0]) / max(epochs[-1] - epochs[0], 1e-9), 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - _TOP) * (value - low_value) / (top_value - low_value), 1)

    lines = []
    for number, (name, column) in enumerate(columns.items()):
        points = [(x(e), y(float(v))) for e, v in zip(epochs, column, strict=True) if _finite(v)]
        region = next((r for r in REGIONS if name.endswith(r)), None)
        last = next((float(v) for v in reversed(column) if _finite(v)), None)
        dash = f"{3 * number + 3} 4" if number and region is None else ""
        line = " ".join(f"{a},{b}" for a, b in points)
        lines.append({"name": name, "region": region, "points": line, "last": last, "dash": dash})
    grid = [low_value + (top_value - low_value) * k / 4 for k in range(5)]
    return {
        "width": width,
        "height": height,
        "edges": (_LEFT, _TOP, right, bottom),
        "lines": lines,
        "y_ticks": [{"y": y(v), "text": f"{v:.2g}"} for v in grid],
        "x_ticks": [{"x": x(e), "text": f"{e:g}"} for e in sorted({epochs[0], epochs[len(epochs) // 2], epochs[-1]})],
    }


def _round_up(value: float) -> float:
    """The next number above whose quarters are short."""
    scale = 10.0 ** math.floor(math.log10(value))
    return scale * next(step for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if value <= step * scale)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
