#!/usr/bin/env python
"""Simulate a person who corrects segmentations by clicking: Dice against clicks, and clicks to reach 0.80 and 0.90.

    python scripts/simulate_annotation.py --dataset_dir /data/BraTS2021 --datalist datalist.json --output runs/clicks
    python scripts/simulate_annotation.py --cases data/phantoms --limit 10 --repeats 3 --output runs/clicks

A robot sees the answer and the label, clicks into one of the worst errors, near its middle, and gets a new answer to
all clicks so far. With --ideal it always hits the middle of the worst error, which overestimates what clicks achieve.
A case that has no report gets one that is written from its label. Leaves simulate_annotation.csv (a row per answer),
simulate_annotation_summary.csv, simulate_annotation_reach.csv, and simulate_annotation.md, .png and .svg in the output
folder.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.spatial import cKDTree

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES
from brats_clip.clicks import KINDS, Click, RobotAnnotator
from brats_clip.errors import BratsClipError, InputError
from brats_clip.evaluation import atomic_write, collect_run_info, write_metrics_csv
from brats_clip.evaluation.labelled import WRITTEN, draws, labelled_cases, read_truth
from brats_clip.evaluation.metrics import crop_to_union, dice
from brats_clip.evaluation.plots import SOFT, new_figure, plain, save_figure
from brats_clip.evaluation.spread import bootstrap_interval
from brats_clip.evaluation.summary import statistics
from brats_clip.evaluation.tables import figure, markdown_facts, markdown_table
from brats_clip.interactive import Segmentation
from brats_clip.labels import REGIONS

NAME = "simulate_annotation"
MEASURES = (*REGIONS, "mean")
TARGETS = (0.80, 0.90)
MOST_CLICKS = 1000  # what a segmenter takes
JITTER_MM, SMALLEST_MM3 = 2.0, 8.0
LINES = {"without": ("#5c6775", "--"), "with": ("#0b5cad", "-")}
FEW_CASES = 5  # up to so many get a line each in the picture


# Measuring


def dice_of(answer: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Dice per region and their mean, as ``case_metrics`` has them, without what else it takes seconds to compute."""
    answer, truth = crop_to_union(answer, truth)
    values = {f"dice_{r}": dice(np.isin(answer, v), np.isin(truth, v)) for r, v in REGIONS.items()}
    return values | {"dice_mean": sum(values.values()) / len(values)}


def obeyed(label: np.ndarray, clicks: Sequence[Click]) -> tuple[int, int]:
    """How many clicked voxels are what was clicked, and how many should be: all but those that clicks disagree on."""
    said: dict[tuple, set[str]] = {}
    for click in clicks:
        said.setdefault(click.voxel, set()).add(click.kind)
    asked = {voxel: kinds.pop() for voxel, kinds in said.items() if len(kinds) == 1}
    return sum(_says(label[voxel], kind) for voxel, kind in asked.items()), len(asked)


def _says(value: int, kind: str) -> bool:
    """Whether a label is what a kind of click says of each region; 0 says nothing."""
    pairs = zip(KINDS[kind], REGIONS.values(), strict=True)
    return all(said == 0 or (int(value) in values) == (said > 0) for said, values in pairs)


def furthest_mm(label: np.ndarray, first: np.ndarray, clicks: Sequence[Click], affine: np.ndarray) -> float | None:
    """How far the furthest voxel that changed lies from the nearest click, in mm; None if none changed."""
    changed = np.argwhere(label != first)
    if not len(changed) or not clicks:
        return None
    turn = np.asarray(affine, float)[:3, :3].T
    return float(cKDTree(np.array([c.voxel for c in clicks]) @ turn).query(changed @ turn)[0].max())


def make_robot(voxel_mm: Sequence[float], ideal: bool, seed: int) -> RobotAnnotator:
    """A robot whose jitter and blindness to small errors are the same in mm on every grid."""
    smallest = max(1, round(SMALLEST_MM3 / math.prod(voxel_mm)))
    if ideal:
        return RobotAnnotator(second=0.0, jitter=0.0, smallest=smallest, seed=seed)
    return RobotAnnotator(jitter=JITTER_MM / np.asarray(voxel_mm), smallest=smallest, seed=seed)


def annotate(
    segmenter: Segmenter, truth: np.ndarray, report: str, robots: Sequence[RobotAnnotator], clicks: int
) -> list[dict]:
    """Let each robot click up to ``clicks`` times on the current case; a row per robot and number of clicks.

    A robot that sees nothing worth a click any more stops, and its last answer counts for the clicks it did not need:
    ``clicks_made`` tells. ``seconds`` are those of one answer; the first one is the same for all robots.
    """
    first, seconds = _timed(segmenter, report, [])
    start = {"clicks": 0, "clicks_made": 0, **dice_of(first.label, truth), "seconds": seconds}
    start["report_used"] = first.report_used if report else None
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
                answer, seconds = _timed(segmenter, report, made)
                row = {"clicks_made": number, **dice_of(answer.label, truth), "seconds": seconds}
                row |= {"kind": click.kind, "voxel": " ".join(map(str, click.voxel))}
                row["obeyed"], row["asked"] = obeyed(answer.label, made)
                row["furthest_mm"] = furthest_mm(answer.label, first.label, made, answer.affine)
            rows.append({"repeat": repeat, **row, "clicks": number})
    return rows


def _timed(segmenter: Segmenter, report: str, clicks: Sequence[Click]) -> tuple[Segmentation, float]:
    started = time.perf_counter()
    answer = segmenter.segment(report=report, clicks=[(click.kind, click.voxel) for click in clicks])
    return answer, time.perf_counter() - started


# Summing up


def summarise(rows: Sequence[dict]) -> list[dict]:
    """A row per way (with or without a report) and number of clicks.

    ``dice_R`` and ``dice_R_sd`` are over cases, of means over repeats; ``gain_R`` over the answer without a click on
    the same case, with ``_sd`` and the 95 % bootstrap interval ``_low`` to ``_high``. ``obeyed`` of ``asked`` clicked
    voxels over all runs, the median ``seconds`` of an answer, and ``furthest_mm``: how far a change ever was from the
    nearest click. ``report_mean`` and ``report_mean_sd``: what the report adds to the mean Dice of the same case.
    """
    summary = []
    unaided = _over_repeats(rows, "without", "dice_mean")
    for report in dict.fromkeys(row["report"] for row in rows):
        dice = {m: _over_repeats(rows, report, f"dice_{m}") for m in MEASURES}
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


def _over_repeats(rows: Sequence[dict], report: str, column: str) -> dict[str, dict[int, float]]:
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


# What people look at


def to_markdown(
    summary: Sequence[dict], reached: Sequence[dict], rows: Sequence[dict], run: Mapping, failures: Mapping[str, str]
) -> str:
    """The tables, what they come to, and what their figures mean nothing without."""
    dice = [
        [
            s["report"],
            s["clicks"],
            *(figure(s[f"dice_{m}"], s[f"dice_{m}_sd"]) for m in MEASURES),
            figure(s["gain_mean"], s["gain_mean_sd"], "+") if s["clicks"] else "",
            f"{s['obeyed']} of {s['asked']}" if s["asked"] else "",
            figure(s["seconds"], digits=2),
            figure(s["furthest_mm"], digits=1) if s["clicks"] else "",
        ]
        for s in summary
    ]
    head = ["report", "clicks", *(f"Dice {m}" for m in MEASURES), "gain", "obeyed", "seconds", "furthest (mm)"]
    most = max(s["clicks"] for s in summary)
    clicks = [
        [
            line["report"],
            line["region"],
            f"{line['target']:.2f}",
            f"> {most}" if line["median"] is None else f"{line['median']:g}",
            figure(line["clicks"], line["clicks_sd"], digits=1),
            f"{line['never']:.0%}",
        ]
        for line in reached
    ]
    cases = {row["case"]: row for row in rows if row["report"] == "with" and row["clicks"] == 0}
    written = sum(row["source"] == WRITTEN for row in cases.values())
    unused = sum(not row["report_used"] for row in cases.values())
    facts = {"cases": len({row["case"] for row in rows}), "runs per case": len({row["repeat"] for row in rows})}
    if cases:
        own = len(cases) - written
        facts["reports"] = (
            f"{own} of the cases' own, {written} written from the label (a case without one); {unused} not used, "
        )
        facts["reports"] += "since they put the tumour where the image does not show it"
    return "\n".join(
        [
            "# What clicks achieve\n",
            *markdown_table(head, dice),
            "\nDice: mean ± standard deviation over cases. Gain: of the mean Dice over the answer without a click, on "
            "the same case. Obeyed: clicked voxels that are what was clicked, of all clicks so far. Seconds: median "
            "for one answer; reading and encoding the case come before the first. Furthest: of all voxels that changed "
            "against the answer without a click, from the nearest click. A robot that sees nothing worth a click "
            "stops; its last answer counts on.\n",
            "## Clicks to reach a Dice\n",
            *markdown_table(["report", "region", "Dice", "median", "mean of those that do", "never"], clicks, 2),
            f"\nMedian over all runs; never: share of runs that do not get there within {most} clicks.\n",
            *(f"- {sentence}" for sentence in in_short(summary)),
            f"\n![Dice against clicks]({NAME}.svg)\n",
            *markdown_facts(facts | dict(run)),
            *(f"- failed: {case}: {reason}" for case, reason in failures.items()),
            "",
        ]
    )


def draw(summary: Sequence[dict], rows: Sequence[dict], stem: Path, robot: str) -> None:
    """Dice against clicks, a panel per region: mean and standard deviation over cases, and few cases one by one."""
    picture = new_figure(13, 4)
    for axes, measure in zip(picture.subplots(1, len(MEASURES), sharey=True), MEASURES, strict=True):
        for report, (colour, dash) in LINES.items():
            lines = [line for line in summary if line["report"] == report]
            if not lines:
                continue
            x = [line["clicks"] for line in lines]
            mean, sd = (np.array([line[f"dice_{measure}{end}"] or 0 for line in lines]) for end in ("", "_sd"))
            axes.fill_between(x, np.maximum(mean - sd, 0), np.minimum(mean + sd, 1), color=colour, alpha=0.13, lw=0)
            by_case = _over_repeats(rows, report, f"dice_{measure}")
            for case in by_case.values() if 1 < len(by_case) <= FEW_CASES else ():
                axes.plot(x, [case[n] for n in x], color=colour, ls=dash, lw=0.7, alpha=0.45)
            axes.plot(x, mean, color=colour, ls=dash, lw=2, marker="o", ms=3.5, label=f"{report} a report")
        for target in TARGETS:
            axes.axhline(target, color=SOFT, lw=0.9, ls=":")
        plain(axes, f"Dice, {measure}" if measure != "mean" else "Dice, mean of the three", "both")

        axes.set_xlabel("clicks", fontsize=9)
        axes.set_ylim(0, 1.01)
        axes.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = picture.axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    cases, runs = len({row["case"] for row in rows}), len({row["repeat"] for row in rows})
    spread = "mean ± sd over cases" if cases > 1 else "one case, no spread"
    counted = f"{cases} case{'s' * (cases > 1)}, {runs} run{'s' * (runs > 1)} each"
    picture.suptitle(f"{counted}, {robot}: {spread}", fontsize=9)
    save_figure(picture, stem)


# The command


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--cases", type=Path, help="folder of cases; those with a label are taken")
    add("--dataset_dir", type=Path, help="folder that the datalist is relative to")
    add("--datalist", type=Path, help="JSON of scripts/prepare_brats.py, instead of --cases")
    add("--section", nargs="+", default=["testing"], help="of the datalist (default: testing)")
    add("--output", type=Path, default=Path(f"runs/{NAME}"), help="folder for the results (default: %(default)s)")
    add("--checkpoint", type=Path, help="weights (default: those the bundle ships with)")
    add("--device", help="cpu or cuda (default: a GPU if there is one)")
    add(
        "--report",
        choices=("both", "with", "without"),
        default="both",
        help="segment with a report or not (default: both)",
    )
    add("--clicks", type=int, default=10, help="clicks per run, at most (default: %(default)s)")
    add("--repeats", type=int, default=1, help="runs per case, each with a robot of its own (default: %(default)s)")
    add("--ideal", action="store_true", help="click into the middle of the worst error, always")
    add("--limit", type=int, help="measure the first N cases only")
    add("--seed", type=int, default=0, help="of the robots and of written reports (default: %(default)s)")
    args = parser.parse_args(argv)
    if not 1 <= args.clicks <= MOST_CLICKS or args.repeats < 1:
        parser.error(f"--clicks must be 1 to {MOST_CLICKS}, --repeats at least 1")
    if (args.limit is not None and args.limit < 1) or args.seed < 0:
        parser.error("--limit must be at least 1, --seed at least 0")
    kind = (args.device or "cpu").partition(":")[0]
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        parser.error("--device must be cpu, or cuda where there is a GPU")
    return args


def _measure(segmenter: Segmenter, case: dict, args: argparse.Namespace) -> list[dict]:
    """All runs on a case."""
    truth = read_truth(case, args.seed)
    key = segmenter.set_case(**{s: case[s] for s in SEQUENCES}, case=case["case"])
    rows = []
    for report in LINES if args.report == "both" else (args.report,):
        text = truth.report if report == "with" else ""
        # Equal seeds with and without a report, so that the robot's luck is the same.
        seeds = [int(draws(args.seed, case["case"], f"robot {i}").integers(2**31)) for i in range(args.repeats)]
        robots = [make_robot(truth.voxel_mm, args.ideal, seed) for seed in seeds]
        common = {"case": case["case"], "report": report, "source": truth.source if text else None}
        rows += [common | row for row in annotate(segmenter, truth.label, text, robots, args.clicks)]
    segmenter.forget(key)
    return rows


def _run(args: argparse.Namespace, console: Console, command: str) -> dict[str, str]:
    """Measure case after case, and write what came out; returns which cases failed, and why."""
    cases = labelled_cases(args.cases, args.dataset_dir, args.datalist, args.section)[: args.limit]
    segmenter = Segmenter(checkpoint=args.checkpoint, device=args.device)
    run = collect_run_info(command, segmenter.checkpoint, device=str(segmenter.device), seed=args.seed)
    chosen = RobotAnnotator()
    robot = "ideal robot" if args.ideal else "realistic robot"
    how = (
        "no jitter, always the worst error"
        if args.ideal
        else (f"jitter {JITTER_MM:g} mm per axis, the second-worst error in {chosen.second:.0%} of clicks")
    )
    run["robot"] = f"{robot}: {how}; overlooks errors below {SMALLEST_MM3:g} mm3"
    rows, failures = [], {}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        for case in progress.track(cases, description="cases"):
            try:
                rows += _measure(segmenter, case, args)
            except InputError as error:
                failures[case["case"]] = str(error)
            if rows:
                write_metrics_csv(rows, args.output / f"{NAME}.csv")  # as far as it has come, should it be cut off
    if rows:
        summary, reached = summarise(rows), reach(rows)
        write_metrics_csv(summary, args.output / f"{NAME}_summary.csv")
        write_metrics_csv(reached, args.output / f"{NAME}_reach.csv")
        draw(summary, rows, args.output / NAME, robot)
        with atomic_write(args.output / f"{NAME}.md") as draft:
            draft.write_text(to_markdown(summary, reached, rows, run, failures), encoding="utf-8")
        console.print("\n".join([*in_short(summary), f"Wrote {args.output / NAME}.md, .csv, .png and .svg."]))
    return failures


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 when a case failed, 2 when the input is of no use."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _arguments(argv)
    command = shlex.join(["python", f"scripts/{NAME}.py", *argv])
    try:
        failures = _run(args, Console(soft_wrap=True, markup=False, highlight=False), command)
    except BratsClipError as error:
        sys.stderr.write(f"{NAME}: {error}\n")
        return 2
    for case, reason in failures.items():
        sys.stderr.write(f"{NAME}: {case}: {reason}\n")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
