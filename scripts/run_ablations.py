#!/usr/bin/env python
"""The ablation table of arXiv:2507.09966 over seeds: the full network, and without each part of the method.

python scripts/run_ablations.py --dataset_dir /data/BraTS2021 --datalist datalist.json --output runs/ablations

Trains and evaluates each network of bundle/configs/ablations, and the full one, once per seed. Leaves ablations.md,
ablations.csv and ablations.svg in the output folder, and each run in NETWORK/seedK below it. Type the same command
again to go on where it was interrupted; what is finished is not run again. What follows "--" goes to train.json:

python scripts/run_ablations.py ... --epochs 40 -- --patch_size "[96,96,96]" --batch_size 2
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from rich.console import Console

from brats_clip.errors import BratsClipError
from measuring.ablation_plan import VARIANTS, plan
from measuring.ablation_runs import Run
from measuring.ablation_table import write_results
from measuring.bundle_run import RunFailed
from measuring.command import exit_with_children, make_progress, run_command
from measuring.overrides import cut_at_dashes

NAME = "run_ablations"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    own, words = cut_at_dashes(argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, type=Path, help="folder that the datalist is relative to")
    parser.add_argument("--datalist", required=True, type=Path, help="JSON of scripts/prepare_brats.py")
    parser.add_argument("--output", required=True, type=Path, help="folder for the runs, the table and the cache")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one training each (default: 0 1 2)")
    some = f"some of {', '.join(VARIANTS)} (default: all)"
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=VARIANTS, metavar="NETWORK", help=some)
    parser.add_argument("--epochs", type=int, help="per training (default: those of train.json)")
    how = "evaluate with each case's own report, with none, or both (default: true)"
    parser.add_argument("--report", nargs="+", choices=("true", "none"), default=["true"], help=how)
    args = parser.parse_args(own)
    args.words = words
    return args


def _run(args: argparse.Namespace, console: Console, command: str) -> dict[str, str]:
    """Run what is not finished, and write the table after each; returns which runs failed, and why."""
    runs, output, failures = plan(args), args.output, {}
    todo = [run for run in runs if not run.finished]
    with make_progress(console) as progress:
        bar = progress.add_task("runs", total=len(runs), completed=len(runs) - len(todo))
        for number, run in enumerate(todo, start=len(runs) - len(todo)):

            def watch(run: Run = run, number: int = number) -> None:
                done, epochs = run.epochs_done(), run.settings["epochs"]
                stage = f"{run.name}: epoch {done} of {epochs}"
                progress.update(bar, description=stage, completed=number + 0.95 * min(1, done / epochs))

            try:
                run.execute(watch)
                write_results(runs, failures, command, output)
            except Exception as reason:  # one bad run must not cost the others
                kind = "" if isinstance(reason, RunFailed | BratsClipError) else f"{type(reason).__name__}: "
                failures[run.name] = kind + str(reason).split("\n")[0]
            console.print(f"{run.name}: {'failed' if run.name in failures else 'done'}")
            progress.update(bar, description="runs", completed=number + 1)
    write_results(runs, failures, command, output)
    done = sum(run.finished for run in runs)
    table = f" Table: {output / 'ablations.md'}" if done else ""
    console.print(f"{done} of {len(runs)} runs are finished, {len(todo) - len(failures)} of them new.{table}")
    return failures


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 when a run failed, 2 for bad input."""
    return run_command(NAME, argv, _arguments, _run)


if __name__ == "__main__":
    exit_with_children(NAME, main)
