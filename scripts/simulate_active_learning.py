#!/usr/bin/env python
"""Simulate active learning: train, choose the next cases, label them, repeat; Dice against number of labelled cases.

    python scripts/simulate_active_learning.py --phantoms 44 --output runs/active
    python scripts/simulate_active_learning.py --dataset_dir /data/BraTS2021 --datalist datalist.json \\
      --pretrained bundle/models/model.pt --output runs/active -- --spacing "[2,2,2]" --patch_size "[64,64,64]"

Each seed starts from a few labelled cases that all strategies share. Then each strategy chooses a batch by the scores
of its own network, the true labels are added, and training continues with the bundle's train.json. Dice is measured on
test cases that are never trained on: those of the datalist, or some of the folder's. Writes to the output folder
simulate_active_learning.md, .csv, _summary.csv, .png and .svg. Repeat the command to resume it, or with more seeds,
labels or strategies; finished rounds are not repeated. Options after "--" are settings of train.json. Without
--pretrained, the default is a small network at 4 mm that is trained from scratch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from measuring.command import cut_at_dashes, exit_with_children, run_command

NAME = "simulate_active_learning"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--phantoms", type=int, help="number of synthetic patients to make at 4 mm in OUTPUT/patients and use")
    add("--cases", type=Path, help="folder of cases; labelled ones are used")
    add("--dataset_dir", type=Path, help="folder that the datalist is relative to")
    add("--datalist", type=Path, help="JSON of scripts/prepare_brats.py; chooses from training, measures on testing")
    add("--tests", type=int, default=12, help="test cases to take from a folder (default: %(default)s)")
    add("--output", type=Path, default=Path(f"runs/{NAME}"), help="folder for the results (default: %(default)s)")
    add("--strategies", nargs="+", metavar="NAME", help="some of scripts/measuring/strategies.py (default: all)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds, one repeat each (default: 0 1 2)")
    add("--start", type=int, default=2, help="labelled cases at the start (default: %(default)s)")
    add("--batch", type=int, default=2, help="cases labelled per round (default: %(default)s)")
    add("--labels", type=int, default=12, help="labelled cases at the end (default: %(default)s)")
    add("--steps", type=int, default=100, help="approximate iterations per training (default: %(default)s)")
    add("--pretrained", type=Path, help="weights to start from (default: none)")
    own, words = cut_at_dashes(argv)
    args = parser.parse_args(own)
    args.words = words
    if min(args.start, args.batch, args.steps, args.tests) < 1 or min(args.seeds) < 0:
        parser.error("--start, --batch, --steps and --tests must be at least 1, --seeds at least 0")
    if args.labels < args.start + args.batch:
        parser.error(f"--labels must be at least --start and --batch together, {args.start + args.batch}")
    from measuring.strategies import ORDERS  # deferred, so that --help is fast

    if unknown := set(args.strategies or ()) - {*ORDERS}:
        parser.error(f"--strategies: unknown {', '.join(unknown)}; choose from {', '.join(ORDERS)}")
    args.strategies = args.strategies or list(ORDERS)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 if a run failed, 2 if the input is invalid."""
    return run_command(NAME, argv, _arguments, "measuring.active_learning:simulate")


if __name__ == "__main__":
    exit_with_children(NAME, main)
