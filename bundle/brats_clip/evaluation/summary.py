"""Metrics of many cases: the CSV table and its summary."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..images import atomic_write
from ..labels import REGIONS

Row = Mapping[str, Any]
# Metrics with another meaning in a case without the region: there Dice is 1 or 0 and HD95 0 or the penalty.
_SPLIT = ("dice", "hd95", "sensitivity", "lesionwise_dice")


def write_metrics_csv(rows: Iterable[Row], path: str | os.PathLike) -> None:
    """Write one line per case, atomically: ``case`` first, then the columns in the order of the rows.

    Numbers keep six significant digits; a missing value or NaN is an empty cell.
    """
    table = pd.DataFrame(list(rows))
    table = table[["case", *table.columns.drop("case", errors="ignore")]] if "case" in table else table
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")


def statistics(values: Iterable[float]) -> dict[str, float | int | None]:
    """Return mean, sample standard deviation, median, quartiles and count of the values that are neither None nor NaN.

    Without values, all but ``n`` are ``None``; the standard deviation needs two values.
    """
    array = np.array([v for v in values if v is not None and not math.isnan(v)], dtype=float)
    if array.size == 0:
        return dict.fromkeys(("mean", "std", "median", "q1", "q3"), None) | {"n": 0}
    q1, median, q3 = np.percentile(array, (25, 50, 75))
    return {
        "mean": float(array.mean()),
        "std": float(array.std(ddof=1)) if array.size > 1 else None,
        "median": float(median),
        "q1": float(q1),
        "q3": float(q3),
        "n": int(array.size),
    }


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, float | int | None]]:
    """Return statistics of each numeric column over all cases.

    ``dice_ET_present`` and ``dice_ET_absent`` (likewise for WT, TC, HD95, sensitivity and lesion-wise Dice) split the
    cases by whether the truth has the region: a mean over both mixes two questions, how well a region is segmented and
    whether it is predicted where there is none. Columns without cases are left out.

    Raises:
        InputError: if a case occurs more than once.
    """
    cases = [row["case"] for row in rows]
    if len(set(cases)) != len(cases):
        twice = sorted({case for case in cases if cases.count(case) > 1})
        raise InputError("metrics", f"more than one row for {', '.join(map(str, twice))}", "one row per case")
    columns = list(dict.fromkeys(column for row in rows for column, value in row.items() if _is_number(value)))
    summary = {column: statistics(row[column] for row in rows if _is_number(row.get(column))) for column in columns}
    for region in REGIONS:
        for name, present in (("present", True), ("absent", False)):
            subset = [row for row in rows if (row.get(f"volume_ml_{region}_truth", 0) > 0) == present]
            for column in (f"{metric}_{region}" for metric in _SPLIT):
                if column in summary and subset:
                    summary[f"{column}_{name}"] = statistics(row[column] for row in subset)
    return summary


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def write_summary(summary: Mapping[str, Any], path: str | os.PathLike, run: Mapping[str, Any] | None = None) -> None:
    """Write ``{"run": ..., "metrics": ...}`` as JSON, atomically; NaN and infinity become ``null``."""
    text = json.dumps(_plain({"run": dict(run or {}), "metrics": dict(summary)}), indent=2, ensure_ascii=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
