"""Dice against clicks over cases, and clicks to reach a Dice."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from brats_clip.evaluation.spread import bootstrap_interval
from brats_clip.evaluation.summary import statistics
from brats_clip.evaluation.tables import figure

from .region_dice import MEASURES

WAYS = ("without", "with")  # a report
TARGETS = (0.80, 0.90)


def summarise(rows: Sequence[dict]) -> list[dict]:
    """A row per way (with or without a report) and number of clicks.

    ``dice_R`` and ``dice_R_sd`` are over cases, of means over repeats; ``gain_R`` over the answer without a click on
    the same case, with ``_sd`` and the 95 % bootstrap interval ``_low`` to ``_high``. ``obeyed`` of ``asked`` clicked
    voxels over all runs, the median ``seconds`` of an answer, and ``furthest_mm``: how far a change ever was from the
    nearest click. ``report_mean`` and ``report_mean_sd``: what the report adds to the mean Dice of the same case.
    """
    summary = []
    unaided = over_repeats(rows, "without", "dice_mean")
    for report in dict.fromkeys(row["report"] for row in rows):
        dice = {m: over_repeats(rows, report, f"dice_{m}") for m in MEASURES}
        for clicks in sorted({row["clicks"] for row in rows}):
            here = [row for row in rows if row["report"] == report and row["clicks"] == clicks]
            line = {"report": report, "clicks": clicks, "cases": len({row["case"] for row in here}), "runs": len(here)}
            for measure, by_case in dice.items():
                values = statistics(case[clicks] for case in by_case.values())
                gains = [case[clicks] - case[0] for case in by_case.values()]
                gain, (low, high) = statistics(gains), bootstrap_interval(gains)
                line |= {f"dice_{measure}": values["mean"], f"dice_{measure}_sd": values["std"]}
                line |= {f"gain_{measure}": gain["mean"], f"gain_{measure}_sd": gain["std"]}
                line |= {f"gain_{measure}_low": low, f"gain_{measure}_high": high}
            if report == "with" and unaided:
                added = statistics(case[clicks] - unaided[name][clicks] for name, case in dice["mean"].items())
                line |= {"report_mean": added["mean"], "report_mean_sd": added["std"]}
            answered = [row for row in here if row.get("asked")]
            line |= {key: sum(row[key] for row in answered) for key in ("obeyed", "asked")}
            line["seconds"] = statistics(row.get("seconds") for row in here)["median"]
            distances = [row["furthest_mm"] for row in answered if row["furthest_mm"] is not None]
            line["furthest_mm"] = max(distances, default=None)
            summary.append(line)
    return summary


def over_repeats(rows: Sequence[dict], report: str, column: str) -> dict[str, dict[int, float]]:
    """Means over repeats by case and number of clicks."""
    values: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        if row["report"] == report:
            values.setdefault(row["case"], {}).setdefault(row["clicks"], []).append(row[column])
    return {case: {n: float(np.mean(v)) for n, v in by_clicks.items()} for case, by_clicks in values.items()}


def reach(rows: Sequence[dict]) -> list[dict]:
    """Clicks until Dice first reaches each of ``TARGETS``, a row per way, region and target.

    ``never`` is the share of runs (a case with one robot) that do not get there within the clicks; ``clicks`` and
    ``clicks_sd`` are over those that do, and ``median`` over all, empty where half of them never do.
    """
    runs: dict[tuple, dict[int, dict]] = {}
    for row in rows:
        runs.setdefault((row["report"], row["case"], row["repeat"]), {})[row["clicks"]] = row
    lines = []
    for report in dict.fromkeys(row["report"] for row in rows):
        mine = [run for (way, *_), run in runs.items() if way == report]
        for measure in MEASURES:
            for target in TARGETS:
                there = [[n for n, row in run.items() if row[f"dice_{measure}"] >= target] for run in mine]
                needed = [min(numbers, default=None) for numbers in there]
                got = statistics(needed)
                median = np.median([math.inf if n is None else n for n in needed])
                line = {"report": report, "region": measure, "target": target, "runs": len(mine)}
                line |= {"never": 1 - got["n"] / len(mine), "clicks": got["mean"], "clicks_sd": got["std"]}
                lines.append(line | {"median": float(median) if np.isfinite(median) else None})
    return lines


def in_short(summary: Sequence[dict]) -> list[str]:
    """What the figures come to, in sentences."""
    said = []
    for report in dict.fromkeys(line["report"] for line in summary):
        lines = {line["clicks"]: line for line in summary if line["report"] == report}
        for number in sorted({min(5, max(lines)), max(lines)}):
            gain = figure(lines[number]["gain_mean"], lines[number]["gain_mean_sd"], "+")
            low, high = (lines[number][f"gain_mean_{end}"] for end in ("low", "high"))
            sure = "" if low is None else f" [{low:+.3f}, {high:+.3f}]"
            said.append(f"{report.capitalize()} a report, {number} clicks: mean Dice {gain}{sure} over no click.")
        if "report_mean" in lines[0]:
            added = {n: figure(lines[n]["report_mean"], lines[n]["report_mean_sd"], "+") for n in (0, max(lines))}
            said.append(
                f"A report adds {added[0]} to the mean Dice without clicks, {added[max(lines)]} with {max(lines)}."
            )
    asked, kept = (sum(line[key] for line in summary) for key in ("asked", "obeyed"))
    if asked:
        said.append(f"Clicks obeyed at their voxel, in every answer since: {kept} of {asked}.")
    if any(line["furthest_mm"] is not None for line in summary):
        furthest = max(line["furthest_mm"] for line in summary if line["furthest_mm"] is not None)
        said.append(f"Furthest voxel that changed against the answer without clicks: {furthest:.1f} mm from a click.")
    first, later = (
        statistics(line["seconds"] for line in summary if (line["clicks"] > 0) == clicked)["median"]
        for clicked in (False, True)
    )
    if later is not None:
        said.append(f"Seconds, median: {first:.2f} for an answer without clicks, {later:.2f} for one to clicks.")
    return said
