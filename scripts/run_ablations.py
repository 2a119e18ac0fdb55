#!/usr/bin/env python
"""Run the ablations of arXiv:2507.09966 over seeds: the full network, and the network without each part.

python scripts/run_ablations.py --dataset_dir /data/BraTS2021 --datalist datalist.json --output runs/ablations

Trains and evaluates each network of bundle/configs/ablations, and the full one, once per seed. Writes ablations.md,
ablations.csv and ablations.svg to the output folder, and each run to NETWORK/seedK below it. To resume an interrupted
command, repeat it; finished runs are not repeated. Options after "--" are settings of train.json:

python scripts/run_ablations.py ... --epochs 40 -- --patch_size "[96,96,96]" --batch_size 2
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from measuring.command import cut_at_dashes, exit_with_children, run_command

NAME = "run_ablations"
CONFIGS = Path(__file__).resolve().parents[1] / "bundle" / "configs"
VARIANTS = ("full", *sorted(path.stem for path in (CONFIGS / "ablations").glob("*.json")))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    own, words = cut_at_dashes(argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, type=Path, help="folder that the datalist is relative to")
    parser.add_argument("--datalist", required=True, type=Path, help="JSON of scripts/prepare_brats.py")
    parser.add_argument("--output", required=True, type=Path, help="folder for the runs, the table and the cache")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one training each (default: 0 1 2)")
    some = f"some of {', '.join(VARIANTS)} (default: all)"
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=VARIANTS, metavar="NETWORK", help=some)
    parser.add_argument("--epochs", type=int, help="epochs per training (default: those of train.json)")
    how = "evaluate with each case's own report, with none, or both (default: true)"
    parser.add_argument("--report", nargs="+", choices=("true", "none"), default=["true"], help=how)
    args = parser.parse_args(own)
    args.words = words
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 if a run failed, 2 if the input is invalid."""
    return run_command(NAME, argv, _arguments, "measuring.ablation:ablate")


if __name__ == "__main__":
    exit_with_children(NAME, main)
