#!/usr/bin/env python
"""Simulate active learning: train a little, choose who is labelled next, label, repeat; Dice against labelled cases.

    python scripts/simulate_active_learning.py --phantoms 44 --output runs/active
    python scripts/simulate_active_learning.py --dataset_dir /data/BraTS2021 --datalist datalist.json \\
      --pretrained bundle/models/model.pt --output runs/active -- --spacing "[2,2,2]" --patch_size "[64,64,64]"

Each seed starts from a few labelled cases that all strategies share. Then each strategy chooses a batch from the scores
of its own network, the true labels are added, and the network is trained on with the bundle's train.json. Dice is
measured on test cases that are never trained on: those of the datalist, or a share of the folder's. Leaves
simulate_active_learning.md, .csv, _summary.csv, .png and .svg in the output folder. Type the same command again to go
on where it was interrupted, or with more seeds, labels or strategies; what is finished is not run again. What follows
"--" goes to train.json. Without --pretrained and without such settings a small network at 4 mm is trained from scratch.
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
    add("--phantoms", type=int, help="make so many synthetic patients at 4 mm in OUTPUT/patients and use those")
    add("--cases", type=Path, help="folder of cases; those with a label are taken")
    add("--dataset_dir", type=Path, help="folder that the datalist is relative to")
    add("--datalist", type=Path, help="JSON of scripts/prepare_brats.py; chooses from training, measures on testing")
    add("--tests", type=int, default=12, help="test cases of a folder (default: %(default)s)")
    add("--output", type=Path, default=Path(f"runs/{NAME}"), help="folder for the results (default: %(default)s)")
    add("--strategies", nargs="+", metavar="NAME", help="some of scripts/measuring/strategies.py (default: all)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one repeat each (default: 0 1 2)")
    add("--start", type=int, default=2, help="labelled cases at first (default: %(default)s)")
    add("--batch", type=int, default=2, help="cases labelled per round (default: %(default)s)")
    add("--labels", type=int, default=12, help="labelled cases at the end (default: %(default)s)")
    add("--steps", type=int, default=100, help="iterations per training, about (default: %(default)s)")
    add("--pretrained", type=Path, help="weights to start from (default: none)")
    own, words = cut_at_dashes(argv)
    args = parser.parse_args(own)
    args.words = words
    if min(args.start, args.batch, args.steps, args.tests) < 1 or min(args.seeds) < 0:
        parser.error("--start, --batch, --steps and --tests must be at least 1, --seeds at least 0")
    if args.labels < args.start + args.batch:
        parser.error(f"--labels must be at least --start and --batch together, {args.start + args.batch}")
    from measuring.strategies import ORDERS  # late, so that --help need not wait for torch

    if unknown := set(args.strategies or ()) - {*ORDERS}:
        parser.error(f"--strategies has {', '.join(unknown)}; there are {', '.join(ORDERS)}")
    args.strategies = args.strategies or list(ORDERS)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 when a run failed, 2 when the input is of no use."""
    return run_command(NAME, argv, _arguments, "measuring.active_learning:simulate")


if __name__ == "__main__":
    exit_with_children(NAME, main)
