#!/usr/bin/env python
"""Fit the quality prediction to weights: expected Dice, calibrated probabilities of error, and where to look first.

    python scripts/fit_quality.py --phantoms data/shifted --cross_validation runs/cv --output runs/quality
    python scripts/fit_quality.py --phantoms data/shifted --checkpoint my.pt --write my_bundle/models/quality.json

Each case is segmented with weights that never saw it: scans of a cross-validation with those of their fold, phantoms
(use some that were not trained on) with --checkpoint. Printed results come from coefficients fitted without the case
and its fold; the written coefficients are fitted on all cases. Answers are kept in the output folder, so that the same
command resumes. Writes quality.json, fit_quality.csv (a row per answer), fit_quality_order.png and .svg (the order of
correction), fit_quality_clicks.csv and fit_quality.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from measuring.command import check_device, run_command

NAME = "fit_quality"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--phantoms", type=Path, nargs="+", default=[], metavar="DIR", help="folders of phantoms")
    add("--cross_validation", type=Path, help="output folder of cross_validate.py")
    add("--cases", type=Path, nargs="+", default=[], metavar="DIR", help="folders of scans that --checkpoint never saw")
    add("--checkpoint", type=Path, help="weights to fit for (default: the shipped ones)")
    add("--output", type=Path, default=Path(f"runs/{NAME}"), help="folder for the results (default: %(default)s)")
    add("--write", type=Path, help="file for the coefficients (default: OUTPUT/quality.json)")
    clicks = "click at the suggested places and measure the gain, on scans or on all cases"
    add("--clicks", choices=("scans", "all"), help=clicks)
    ways = ("both", "with", "without")
    add("--report", choices=ways, default="both", help="segment with a report or without (default: both)")
    add("--device", help="cpu or cuda (default: a GPU if there is one)")
    add("--limit", type=int, help="use only the first N cases of each kind")
    add("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    args = parser.parse_args(argv)
    if not (args.phantoms or args.cross_validation or args.cases):
        parser.error("needs --phantoms, --cross_validation or --cases")
    if (args.limit is not None and args.limit < 1) or args.seed < 0:
        parser.error("--limit must be at least 1, --seed at least 0")
    check_device(parser, args.device or "cpu")
    args.tta = False
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 if a case failed, 2 if the input is invalid."""
    return run_command(NAME, argv, _arguments, "measuring.quality:fit_quality")


if __name__ == "__main__":
    sys.exit(main())
