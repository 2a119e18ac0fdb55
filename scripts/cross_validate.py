#!/usr/bin/env python
"""Cross-validate on labelled cases: train k times, and score each case with the weights that never saw its patient.

python scripts/cross_validate.py --cases /data/brats /data/more --phantoms data/phantoms --folds 4 --epochs 60 \\
    --pretrained bundle/models/model_phantoms.pt --set learning_rate=0.0006 --output runs/cv
python scripts/cross_validate.py --cases /data/brats --score_only --checkpoint bundle/models/model.pt --output runs/mine

Training uses the bundle's train.json on the other folds, mixed with phantoms. Scoring uses its evaluate.json, without
reports unless --score changes that. No scored case takes part in choosing the weights: by default those of the last
epoch are used. Writes table.md, metrics.csv, summary.json and folds.json to the output folder, and datalist, log and
weights of each fold to fold0, fold1 and so on. To resume an interrupted run, even within a fold, repeat the command.
Finished folds can be scored with other settings, without training: --name with_reports --score use_reports=true.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from measuring.command import exit_with_children, run_command

NAME = "cross_validate"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--cases", required=True, type=Path, nargs="+", metavar="DIR", help="folders of cases; labelled ones are used")
    add("--output", required=True, type=Path, help="folder for the folds, the table and the cache")
    add("--phantoms", type=Path, nargs="+", default=[], metavar="DIR", help="folders of phantoms to mix in")
    add("--phantom_share", type=float, default=0.5, help="share of phantoms in an epoch (default: %(default)s)")
    add("--validation", type=Path, metavar="DIR", help="folder of phantoms to choose the epoch by (default: the last)")
    add("--folds", type=int, default=4, help="number of folds (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the folds and of training (default: %(default)s)")
    add("--pretrained", type=Path, help="weights that every fold starts from (default: none)")
    add("--epochs", type=int, help="epochs per fold (default: those of train.json)")
    add("--configs", type=Path, nargs="+", default=[], metavar="FILE", help="configs on top of train.json")
    add(
        "--then",
        nargs="+",
        default=[],
        metavar="NAME=EPOCHS",
        help="further training stages from each fold's weights, such as train_clicks=4",
    )
    pairs = {"nargs": "+", "action": "extend", "default": [], "metavar": "KEY=VALUE"}
    add("--set", **pairs, help="training settings, such as learning_rate=0.0006")
    add("--score", **pairs, help="settings of evaluate.json, such as use_reports=true")
    add("--name", default="", help="name of this scoring; its table goes to OUTPUT/NAME")
    add("--only", type=int, nargs="+", metavar="FOLD", help="train and score these folds only")
    add("--final", action="store_true", help="also train on all cases; writes OUTPUT/all, which is not scored")
    add("--patients", type=int, metavar="N", help="train each fold on at most N patients, for a learning curve")
    add("--score_only", action="store_true", help="train nothing, score --checkpoint on all cases")
    add("--checkpoint", type=Path, help="weights for --score_only")
    args = parser.parse_args(argv)
    if args.score_only != (args.checkpoint is not None):
        parser.error("--score_only and --checkpoint go together")
    if args.score_only and (args.phantoms or args.final or args.only or args.pretrained or args.patients):
        parser.error("--score_only trains nothing: omit --phantoms, --pretrained, --only, --patients and --final")
    if not 0 <= args.phantom_share < 1 or args.folds < 2 or args.seed < 0 or (args.epochs or 1) < 1:
        parser.error("--phantom_share must be 0 to below 1, --folds at least 2, --seed at least 0, --epochs at least 1")
    if args.patients is not None and args.patients < 1:
        parser.error("--patients must be at least 1")
    if args.only and not set(args.only) <= set(range(args.folds)):
        parser.error(f"--only takes folds 0 to {args.folds - 1}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 if a fold failed, 2 if the input is invalid."""
    return run_command(NAME, argv, _arguments, "measuring.cross_validation:cross_validate")


if __name__ == "__main__":
    exit_with_children(NAME, main)
