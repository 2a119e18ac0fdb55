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
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "monailabel_app"))

from rich.console import Console

from brats_clip.errors import BratsClipError
from brats_clip.evaluation import atomic_write, collect_run_info, write_metrics_csv
from brats_label.active.cache import ScoreCache
from brats_label.active.choose import ORDERS
from brats_label.store import Store
from measuring.active_learning_page import NAME, draw, to_markdown
from measuring.active_learning_rounds import Round, Setting
from measuring.active_learning_setting import prepare
from measuring.active_learning_summary import collect, in_short, summarise
from measuring.bundle_run import RunFailed, hold
from measuring.command import exit_with_children, make_progress, run_command
from measuring.overrides import cut_at_dashes


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--phantoms", type=int, help="make so many synthetic patients at 4 mm in OUTPUT/patients and use those")
    add("--cases", type=Path, help="folder of cases; those with a label are taken")
    add("--dataset_dir", type=Path, help="folder that the datalist is relative to")
    add("--datalist", type=Path, help="JSON of scripts/prepare_brats.py; chooses from training, measures on testing")
    add("--tests", type=int, default=12, help="test cases of a folder (default: %(default)s)")
    add("--output", type=Path, default=Path(f"runs/{NAME}"), help="folder for the results (default: %(default)s)")
    add("--strategies", nargs="+", choices=ORDERS, default=list(ORDERS), metavar="NAME", help=f"of {', '.join(ORDERS)}")
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
    return args


def _run(args: argparse.Namespace, console: Console, command: str) -> dict[str, str]:
    """Run what is not finished, and write what is known after each strategy; returns which runs failed, and why."""
    setting, rounds = prepare(args), (args.labels - args.start) // args.batch
    seeds, strategies = list(dict.fromkeys(args.seeds)), [s for s in ORDERS if s in args.strategies]
    run = collect_run_info(command, args.pretrained, pool=len(setting.pool), tests=len(setting.tests))
    run["training"] = f"about {args.steps} iterations per round, each going on from the weights before"
    cache, failures = ScoreCache(Store(args.output / "scores.db")), {}
    with make_progress(console) as progress:
        bar = progress.add_task("", total=len(seeds) * (1 + len(strategies) * rounds))

        def repeat(seed: int) -> None:
            for strategy in (None, *strategies):
                name = f"seed {seed}, {strategy or 'start'}"
                try:
                    before = None if strategy is None else Round(setting, seed, "start", 0)
                    for number in range(1, rounds + 1) if strategy else [0]:
                        current = Round(setting, seed, strategy or "start", number)
                        progress.update(bar, description=f"{name}: round {number} of {rounds}")
                        current.run(before, cache, progress.refresh)
                        progress.advance(bar)
                        before = current
                except (RunFailed, BratsClipError) as reason:
                    failures[name] = str(reason)
                    if strategy is None:
                        break
                _write_results(collect(setting, seeds, strategies, rounds), setting, run, failures)

        for seed in seeds:
            folder = setting.output / f"seed{seed}"
            folder.mkdir(exist_ok=True)
            try:
                with hold(folder):
                    repeat(seed)
            except RunFailed as reason:
                failures[f"seed {seed}"] = str(reason)
    summary = _write_results(collect(setting, seeds, strategies, rounds), setting, run, failures)
    if summary:
        console.print("\n".join([*in_short(summary), f"Wrote {args.output / NAME}.md, .csv, .png and .svg."]))
    return failures


def _write_results(rows: list[dict], setting: Setting, run: dict, failures: dict[str, str]) -> list[dict]:
    """Write what is known; returns the summary, empty while no strategy has come further than the shared start."""
    if not rows or max(row["labels"] for row in rows) <= setting.start:
        return []
    summary, stem = summarise(rows), setting.output / NAME
    write_metrics_csv([{"case": "", **row} for row in rows], stem.with_name(f"{NAME}.csv"))
    write_metrics_csv([{"case": "", **line} for line in summary], stem.with_name(f"{NAME}_summary.csv"))
    draw(rows, summary, stem)
    with atomic_write(stem.with_name(f"{NAME}.md")) as draft:
        draft.write_text(to_markdown(rows, summary, run, failures), encoding="utf-8")
    return summary


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 when a run failed, 2 when the input is of no use."""
    return run_command(NAME, argv, _arguments, _run)


if __name__ == "__main__":
    exit_with_children(NAME, main)
