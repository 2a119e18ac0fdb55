#!/usr/bin/env python
"""Measure the effect of a report on a segmentation: a true one, part of one, a wrong one, or none.

    python scripts/report_robustness.py --dataset_dir /data/BraTS2021 --datalist datalist.json --output runs/robustness
    python scripts/report_robustness.py --cases data/phantoms --limit 20 --without t1ce --output runs/no_t1ce
    python scripts/report_robustness.py --cross_validation runs/cv --output runs/cv_reports

Each labelled case is segmented without a report, with its own report, and with that report changed by each of
brats_clip.reports.PERTURBATIONS. A case without a report gets one that is written from its label. The segmenter ignores
a report that contradicts the image on the tumour's location; --unscreened passes every report to the network. Writes
report_robustness.csv (a row per case and kind of report), report_robustness_summary.csv, and report_robustness.md, .png
and .svg to the output folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from measuring.command import add_case_options, check_case_options, run_command

NAME = "report_robustness"
SEQUENCES = ("t1", "t1ce", "t2", "flair")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_case_options(parser, NAME)
    add = parser.add_argument
    some = "some of none, true and the names in PERTURBATIONS (default: all; none is always measured)"
    add("--kinds", nargs="+", metavar="KIND", help=some)
    add("--without", nargs="+", choices=SEQUENCES, default=[], metavar="SEQUENCE", help="omit these sequences")
    own = parser.add_mutually_exclusive_group()
    own.add_argument("--own_reports", action="store_true", help="skip cases without their own report")
    own.add_argument("--written_reports", action="store_true", help="write every report from the label")
    add("--unscreened", action="store_true", help="use every report, even one that contradicts the tumour's location")
    args = parser.parse_args(argv)
    if len(set(args.without)) == len(SEQUENCES):
        parser.error("--without must leave at least one sequence")
    check_case_options(parser, args)
    from measuring.robustness import KINDS, NONE  # deferred, so that --help is fast

    if unknown := set(args.kinds or ()) - {*KINDS}:
        parser.error(f"--kinds: unknown {', '.join(unknown)}; choose from {', '.join(KINDS)}")
    args.kinds = [kind for kind in KINDS if kind in {NONE, *(args.kinds or KINDS)}]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 if a case failed, 2 if the input is invalid."""
    return run_command(NAME, argv, _arguments, "measuring.robustness:measure_reports")


if __name__ == "__main__":
    sys.exit(main())
