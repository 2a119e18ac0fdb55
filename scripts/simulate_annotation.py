#!/usr/bin/env python
"""Simulate a person who corrects segmentations by clicking: Dice against clicks, and clicks to reach 0.80 and 0.90.

    python scripts/simulate_annotation.py --dataset_dir /data/BraTS2021 --datalist datalist.json --output runs/clicks
    python scripts/simulate_annotation.py --cases data/phantoms --limit 10 --repeats 3 --output runs/clicks
    python scripts/simulate_annotation.py --cross_validation runs/cv --report without --output runs/clicks

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

from measuring.command import add_case_options, check_case_options, run_command

NAME = "simulate_annotation"
MOST_CLICKS = 1000  # what a segmenter takes


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_case_options(parser, NAME)
    add = parser.add_argument
    ways = ("both", "with", "without")
    add("--report", choices=ways, default="both", help="segment with a report or not (default: both)")
    add("--clicks", type=int, default=10, help="clicks per run, at most (default: %(default)s)")
    add("--repeats", type=int, default=1, help="runs per case, each with a robot of its own (default: %(default)s)")
    add("--ideal", action="store_true", help="click into the middle of the worst error, always")
    args = parser.parse_args(argv)
    if not 1 <= args.clicks <= MOST_CLICKS or args.repeats < 1:
        parser.error(f"--clicks must be 1 to {MOST_CLICKS}, --repeats at least 1")
    check_case_options(parser, args)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 when a case failed, 2 when the input is of no use."""
    return run_command(NAME, argv, _arguments, "measuring.annotation:simulate")


if __name__ == "__main__":
    sys.exit(main())
