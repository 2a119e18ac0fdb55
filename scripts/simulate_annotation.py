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
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from rich.console import Console

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES
from brats_clip.clicks import RobotAnnotator
from brats_clip.errors import InputError
from brats_clip.evaluation import atomic_write, collect_run_info, write_metrics_csv
from brats_clip.evaluation.labelled import draws, labelled_cases, read_truth
from measuring.annotation_page import NAME, draw, to_markdown
from measuring.annotation_robot import JITTER_MM, SMALLEST_MM3, annotate, make_robot
from measuring.annotation_summary import WAYS, in_short, reach, summarise
from measuring.command import add_case_options, check_device, make_progress, run_command

MOST_CLICKS = 1000  # what a segmenter takes


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_case_options(parser)
    add = parser.add_argument
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
    check_device(parser, args.device or "cpu")
    return args


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
    with make_progress(console) as progress:
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


def _measure(segmenter: Segmenter, case: dict, args: argparse.Namespace) -> list[dict]:
    """All runs on a case."""
    truth = read_truth(case, args.seed)
    key = segmenter.set_case(**{s: case[s] for s in SEQUENCES}, case=case["case"])
    rows = []
    for report in WAYS if args.report == "both" else (args.report,):
        text = truth.report if report == "with" else ""
        # Equal seeds with and without a report, so that the robot's luck is the same.
        seeds = [int(draws(args.seed, case["case"], f"robot {i}").integers(2**31)) for i in range(args.repeats)]
        robots = [make_robot(truth.voxel_mm, args.ideal, seed) for seed in seeds]
        common = {"case": case["case"], "report": report, "source": truth.source if text else None}
        rows += [common | row for row in annotate(segmenter, truth.label, text, robots, args.clicks)]
    segmenter.forget(key)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 when a case failed, 2 when the input is of no use."""
    return run_command(NAME, argv, _arguments, _run)


if __name__ == "__main__":
    sys.exit(main())
