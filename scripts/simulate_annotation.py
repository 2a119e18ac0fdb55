#!/usr/bin/env python
"""Simulate a person who corrects segmentations with clicks: Dice against clicks, and clicks to reach 0.80 and 0.90.

    python scripts/simulate_annotation.py --dataset_dir /data/BraTS2021 --datalist datalist.json --output runs/clicks
    python scripts/simulate_annotation.py --cases data/phantoms --limit 10 --repeats 3 --output runs/clicks
    python scripts/simulate_annotation.py --cross_validation runs/cv --report without --output runs/clicks

A robot compares the answer with the label, clicks near the centre of one of the worst errors, and gets a new answer for
all clicks so far. With --ideal it always hits the centre of the worst error, which overestimates the effect of clicks.
A case without a report gets one that is written from its label. Writes simulate_annotation.csv (a row per answer),
simulate_annotation_summary.csv, simulate_annotation_reach.csv, and simulate_annotation.md, .png and .svg to the output
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
MOST_CLICKS = 1000  # limit of a segmenter


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_case_options(parser, NAME)
    add = parser.add_argument
    ways = ("both", "with", "without")
    add("--report", choices=ways, default="both", help="segment with a report or without (default: both)")
    add("--clicks", type=int, default=10, help="most clicks per run (default: %(default)s)")
    add("--repeats", type=int, default=1, help="runs per case, each with another random robot (default: %(default)s)")
    add("--ideal", action="store_true", help="always click the centre of the worst error")
    args = parser.parse_args(argv)
    if not 1 <= args.clicks <= MOST_CLICKS or args.repeats < 1:
        parser.error(f"--clicks must be 1 to {MOST_CLICKS}, --repeats at least 1")
    check_case_options(parser, args)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 if a case failed, 2 if the input is invalid."""
    return run_command(NAME, argv, _arguments, "measuring.annotation:simulate")


if __name__ == "__main__":
    sys.exit(main())
