"""Simulated annotation by a robot that clicks on errors: Dice against clicks, and clicks to reach a Dice."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from scipy.spatial import cKDTree

from brats_clip import Segmenter
from brats_clip.clicks import KINDS, Click, RobotAnnotator
from brats_clip.evaluation import MEASURES, region_dice, write_metrics_csv
from brats_clip.evaluation.labelled import WRITTEN, draws, read_truth
from brats_clip.evaluation.plots import SOFT, new_figure, plain, save_figure
from brats_clip.evaluation.summary import statistics
from brats_clip.labels import REGIONS

from .shared import WAYS, cell, chosen_cases, measure_cases, sequences_of, spread, write_page

NAME = "simulate_annotation"
TARGETS = (0.80, 0.90)
LINES = dict(zip(WAYS, ((SOFT, "--"), ("#0b5cad", "-")), strict=True))
FEW_CASES = 5  # the figure shows single cases up to this number
JITTER_MM, SMALLEST_MM3 = 2.0, 8.0


def simulate(args: argparse.Namespace, console: Console, command: str) -> dict[str, str]:
    """Measure case after case, and write the results; return the failed cases with their reasons."""
    chosen = RobotAnnotator()
    robot = "ideal robot" if args.ideal else "realistic robot"
    how = f"jitter {JITTER_MM:g} mm per axis, the second-worst error in {chosen.second:.0%} of clicks"
    how = "no jitter, always the worst error" if args.ideal else how

    def measure(segmenter: Segmenter, case: dict) -> list[dict]:
        truth = read_truth(case, args.seed)
        key = segmenter.set_case(**sequences_of(case), case=case["case"])
        rows = []
        for report in WAYS if args.report == "both" else (args.report,):
            text = truth.report if report == "with" else ""
            # The same seeds with and without a report, so that the robot draws the same random numbers.
            seeds = [int(draws(args.seed, case["case"], f"robot {i}").integers(2**31)) for i in range(args.repeats)]
            robots = [make_robot(truth.voxel_mm, args.ideal, seed) for seed in seeds]
            common = {"case": case["case"], "report": report, "source": truth.source if text else None}
            rows += [common | row for row in annotate(segmenter, truth.label, text, robots, args.clicks)]
        segmenter.forget(key)
        return rows

    cases, failures = chosen_cases(args)[: args.limit], {}
    rows, run = measure_cases(args, console, command, NAME, Segmenter, cases, measure, failures)
    run["robot"] = f"{robot}: {how}; overlooks errors below {SMALLEST_MM3:g} mm3"
    if rows:
        summary, reached = summarise(rows), reach(rows)
        write_metrics_csv(summary, args.output / f"{NAME}_summary.csv")
        write_metrics_csv(reached, args.output / f"{NAME}_reach.csv")
        draw(summary, rows, args.output / NAME, robot)
        sentences, most = summary_sentences(summary), max(s["clicks"] for s in summary)
        found = {"summary": summary, "reached": reached, "most": most, "sentences": sentences}
        write_page(args.output / f"{NAME}.md", "annotation", run=_facts(rows) | run, failures=failures, **found)
        console.print("\n".join([*sentences, f"Wrote {args.output / NAME}.md, .csv, .png and .svg."]))
    return failures


def make_robot(voxel_mm: Sequence[float], ideal: bool, seed: int) -> RobotAnnotator:
    """Return a robot whose jitter and smallest visible error are the same in mm on every grid."""
    smallest = max(1, round(SMALLEST_MM3 / math.prod(voxel_mm)))
    if ideal:
        return RobotAnnotator(second=0.0, jitter=0.0, smallest=smallest, seed=seed)
    return RobotAnnotator(jitter=JITTER_MM / np.asarray(voxel_mm), smallest=smallest, seed=seed)


def annotate(
    segmenter: Segmenter, truth: np.ndarray, report: str, robots: Sequence[RobotAnnotator], clicks: int
) -> list[dict]:
    """Let each robot click up to ``clicks`` times on the current case; return a row per robot and number of clicks.

    A robot that sees no error worth a click stops, and its last answer is used for the remaining numbers of clicks;
    ``clicks_made`` is the actual number. ``seconds`` is the time of one answer; all robots share the first answer.
    """

    def ask(made: Sequence[Click]):
        started = time.perf_counter()
        answer = segmenter.segment(report=report, clicks=[(click.kind, click.voxel) for click in made])
        return answer, {**region_dice(answer.label, truth), "seconds": time.perf_counter() - started}

    first, scores = ask([])
    start = {"clicks": 0, "clicks_made": 0, **scores, "report_used": first.report_used if report else None}
    rows = []
    for repeat, robot in enumerate(robots):
        made: list[Click] = []
        answer, row = first, start
        rows.append({"repeat": repeat, **start})
        for number in range(1, clicks + 1):
            click = robot.click(answer.label, truth) if len(made) == number - 1 else None
            if click is None:
                row = {key: value for key, value in row.items() if key.startswith(("clicks_made", "dice_"))}
            else:
                made.append(click)
                answer, scores = ask(made)
                row = {"clicks_made": number, **scores, "kind": click.kind, "voxel": " ".join(map(str, click.voxel))}
                row["obeyed"], row["asked"] = obeyed(answer.label, made)
                row["furthest_mm"] = furthest_mm(answer.label, first.label, made, answer.affine)
            rows.append({"repeat": repeat, **row, "clicks": number})
    return rows


def obeyed(label: np.ndarray, clicks: Sequence[Click]) -> tuple[int, int]:
    """Return how many clicked voxels follow their click, and how many should: all without contradicting clicks."""
    wanted: dict[tuple, set[str]] = {}
    for click in clicks:
        wanted.setdefault(click.voxel, set()).add(click.kind)
    asked = {voxel: kinds.pop() for voxel, kinds in wanted.items() if len(kinds) == 1}
    return sum(_fits(label[voxel], kind) for voxel, kind in asked.items()), len(asked)


def _fits(value: int, kind: str) -> bool:
    """Whether a label matches what a kind of click requests for each region; 0 requests nothing."""
    pairs = zip(KINDS[kind], REGIONS.values(), strict=True)
    return all(asked == 0 or (int(value) in values) == (asked > 0) for asked, values in pairs)


def furthest_mm(label: np.ndarray, first: np.ndarray, clicks: Sequence[Click], affine: np.ndarray) -> float | None:
    """Return the largest distance in mm from a changed voxel to its nearest click; None if none changed."""
    changed = np.argwhere(label != first)
    if not len(changed) or not clicks:
        return None
    turn = np.asarray(affine, float)[:3, :3].T
    return float(cKDTree(np.array([c.voxel for c in clicks]) @ turn).query(changed @ turn)[0].max())


def summarise(rows: Sequence[dict]) -> list[dict]:
    """Return a row per report setting (with or without) and number of clicks.

    ``dice_R`` and ``dice_R_sd`` are over cases, of means over repeats. ``gain_R`` is the gain over the answer without
    clicks on the same case, with ``_sd`` and the 95 % bootstrap interval ``_low`` to ``_high``. ``obeyed`` of ``asked``
    clicked voxels follow their click, over all runs. ``seconds`` is the median time of an answer, ``furthest_mm`` the
    largest distance of a change from its nearest click. ``report_mean`` is what the report adds to the mean Dice.
    """
    table = pd.DataFrame(rows).reindex(columns=list(dict.fromkeys([*(k for r in rows for k in r), *_OPTIONAL])))
    means = table.groupby(["report", "clicks", "case"])[[f"dice_{m}" for m in MEASURES]].mean()
    summary = []
    for (report, clicks), here in table.groupby(["report", "clicks"], sort=False):
        line = {"report": report, "clicks": clicks, "cases": here["case"].nunique(), "runs": len(here)}
        dice, before = means.xs((report, clicks)), means.xs((report, 0))
        for m in MEASURES:
            line |= spread(f"dice_{m}", dice[f"dice_{m}"])
            line |= spread(f"gain_{m}", dice[f"dice_{m}"] - before[f"dice_{m}"], interval=True)
        if report == "with" and ("without", clicks) in means.index:
            line |= spread("report_mean", dice["dice_mean"] - means.xs(("without", clicks))["dice_mean"])
        line |= {key: int(here[key].sum()) for key in ("obeyed", "asked")}
        furthest = here["furthest_mm"].astype(float).max()
        line |= {"seconds": statistics(here["seconds"].astype(float))["median"]}
        summary.append(line | {"furthest_mm": None if pd.isna(furthest) else furthest})
    return summary


_OPTIONAL = ("obeyed", "asked", "seconds", "furthest_mm")  # columns that rows without a click lack


def reach(rows: Sequence[dict]) -> list[dict]:
    """Return the clicks until Dice first reaches each of ``TARGETS``, a row per report setting, region and target.

    ``never`` is the share of runs (one robot on one case) that do not reach the target; ``clicks`` and ``clicks_sd``
    are over those that do, and ``median`` over all runs, empty if half of them never do.
    """
    table, lines = pd.DataFrame(rows), []
    for report, mine in table.groupby("report", sort=False):
        runs = mine.groupby(["case", "repeat"]).ngroups
        for measure in MEASURES:
            for target in TARGETS:
                there = mine[mine[f"dice_{measure}"] >= target].groupby(["case", "repeat"])["clicks"].min()
                median = float(np.median([*there, *[math.inf] * (runs - len(there))]))
                line = {"report": report, "region": measure, "target": target, "runs": runs}
                line |= {"never": 1 - len(there) / runs, **spread("clicks", there)}
                lines.append(line | {"median": median if math.isfinite(median) else None})
    return lines


def _facts(rows: Sequence[dict]) -> dict:
    cases = {row["case"]: row for row in rows if row["report"] == "with" and row["clicks"] == 0}
    facts = {"cases": len({row["case"] for row in rows}), "runs per case": len({row["repeat"] for row in rows})}
    if cases:
        written = sum(row["source"] == WRITTEN for row in cases.values())
        facts["reports"] = (
            f"{len(cases) - written} of the cases' own, {written} written from the label (a case without one); "
            f"{sum(not row['report_used'] for row in cases.values())} not used, since they put the tumour where the "
            "image does not show it"
        )
    return facts


def summary_sentences(summary: Sequence[dict]) -> list[str]:
    """Summarise the results in sentences."""
    sentences = []
    for report in dict.fromkeys(line["report"] for line in summary):
        lines = {line["clicks"]: line for line in summary if line["report"] == report}
        last = max(lines)
        for number in sorted({min(5, last), last}):
            gain = cell(lines[number], "gain_mean", "+")
            sentences.append(f"{report.capitalize()} a report, {number} clicks: mean Dice {gain} over no click.")
        if "report_mean" in lines[0]:
            added = [cell(lines[n], "report_mean", "+") for n in (0, last)]
            sentences.append(f"A report adds {added[0]} to the mean Dice without clicks, {added[1]} with {last}.")
    asked, kept = (sum(line[key] for line in summary) for key in ("asked", "obeyed"))
    if asked:
        sentences.append(f"Clicks obeyed at their voxel, in every answer since: {kept} of {asked}.")
    if furthest := [line["furthest_mm"] for line in summary if line["furthest_mm"] is not None]:
        sentences.append(
            f"Furthest voxel that changed against the answer without clicks: {max(furthest):.1f} mm from a click."
        )
    first, later = (
        statistics(line["seconds"] for line in summary if (line["clicks"] > 0) == clicked)["median"]
        for clicked in (False, True)
    )
    if later is not None:
        sentences.append(f"Seconds, median: {first:.2f} for an answer without clicks, {later:.2f} for one to clicks.")
    return sentences


def draw(summary: Sequence[dict], rows: Sequence[dict], stem: Path, robot: str) -> None:
    """Plot Dice against clicks, a panel per region: mean and standard deviation over cases, and single cases if few."""
    picture = new_figure(13, 4)
    table, found = pd.DataFrame(rows), pd.DataFrame(summary)
    cases, runs = table["case"].nunique(), table["repeat"].nunique()
    for axes, measure in zip(picture.subplots(1, len(MEASURES), sharey=True), MEASURES, strict=True):
        for report, lines in found.groupby("report", sort=False):
            colour, dash = LINES[report]
            x, mean, sd = (lines[c].astype(float) for c in ("clicks", f"dice_{measure}", f"dice_{measure}_sd"))
            low, high = (mean - sd.fillna(0)).clip(0), (mean + sd.fillna(0)).clip(upper=1)
            axes.fill_between(x, low, high, color=colour, alpha=0.13, lw=0)
            if 1 < cases <= FEW_CASES:
                each = table[table["report"] == report].pivot_table(f"dice_{measure}", "clicks", "case")
                axes.plot(each.index, np.asarray(each), color=colour, ls=dash, lw=0.7, alpha=0.45)
            axes.plot(x, mean, color=colour, ls=dash, lw=2, marker="o", ms=3.5, label=f"{report} a report")
        for target in TARGETS:
            axes.axhline(target, color=SOFT, lw=0.9, ls=":")
        plain(axes, f"Dice, {measure}" if measure != "mean" else "Dice, mean of the three", "both")
        axes.set_xlabel("clicks", fontsize=9)
        axes.set_ylim(0, 1.01)
        axes.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = picture.axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    counted = f"{cases} case{'s' * (cases > 1)}, {runs} run{'s' * (runs > 1)} each"
    picture.suptitle(
        f"{counted}, {robot}: {'mean ± sd over cases' if cases > 1 else 'one case, no spread'}", fontsize=9
    )
    save_figure(picture, stem)
