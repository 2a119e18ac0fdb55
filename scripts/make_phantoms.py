#!/usr/bin/env python
"""Make synthetic patients in the layout of BraTS: four sequences, a segmentation, a report, the findings.

python scripts/make_phantoms.py --output data/phantoms --count 20 --seed 0
python scripts/make_phantoms.py --output data/raw --count 5 --raw    # exams with skull, not aligned, with ground truth
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def case_name(seed: int, index: int) -> str:
    """Return the name of patient ``index`` of ``seed``."""
    return f"PHANTOM_{seed}_{index:05d}"


def make_one(seed: int, index: int, output: str, grid: dict[str, tuple], shift: float, raw: bool) -> str:
    """Draw and write one patient; return its name."""
    # Deferred imports keep --help fast.
    import nibabel as nib
    import torch

    from brats_clip.phantoms import draw_phantom, draw_raw_phantom, write_phantom, write_raw_phantom

    torch.set_num_threads(1)
    nib.openers.Opener.default_compresslevel = 1
    name = case_name(seed, index)
    if raw:
        write_raw_phantom(draw_raw_phantom((seed, index), shift), Path(output), name)
    else:
        write_phantom(draw_phantom((seed, index), shift), Path(output), name, **grid)
    return name


def end_with_parent() -> None:
    """End this worker as soon as the process that started it has ended, however it ended."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path, help="folder that receives one folder per patient")
    parser.add_argument("--count", type=int, default=20, help="number of patients (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal patients (default: 0)")
    parser.add_argument("--first", type=int, default=0, help="index of the first patient (default: 0)")
    parser.add_argument("--size", type=int, nargs=3, help="voxels (default: 240 240 155)")
    parser.add_argument("--spacing", type=float, nargs=3, help="mm (default: 1 1 1)")
    parser.add_argument(
        "--shift",
        type=float,
        default=0.0,
        help="draw sizes, contrasts and scanner artefacts beyond the training range, for choosing checkpoints (0 to 2; "
        "default: 0)",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="raw exams with skull, each sequence on its own grid and moved; ground truth in CASE/truth",
    )
    parser.add_argument(
        "--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: all cores)"
    )
    parser.add_argument("--overwrite", action="store_true", help="overwrite existing patients")
    args = parser.parse_args()
    grid = {name: tuple(given) for name in ("size", "spacing") if (given := getattr(args, name))}
    if args.count < 1 or min(args.size or [16]) < 16 or not all(0 < s < float("inf") for s in args.spacing or ()):
        parser.error("--count must be at least 1, --size at least 16 voxels, --spacing above 0 mm")
    if args.raw and grid:
        parser.error("--size and --spacing cannot be used with --raw, whose sequences have their own grids")
    if not 0 <= args.shift <= 2:
        parser.error("--shift must be from 0 to 2")
    if args.seed < 0 or args.first < 0:
        parser.error("--seed and --first must be at least 0")

    indices = range(args.first, args.first + args.count)
    todo = [i for i in indices if args.overwrite or not (args.output / case_name(args.seed, i)).exists()]
    columns = TextColumn("phantoms"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    # Spawned, not forked: a forked child of a process whose torch has threads can hang.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max(1, args.workers), mp_context=spawn, initializer=end_with_parent)
    with Progress(*columns) as progress, pool:
        bar = progress.add_task("", total=len(indices), completed=len(indices) - len(todo))
        how = str(args.output), grid, args.shift, args.raw
        jobs = [pool.submit(make_one, args.seed, i, *how) for i in todo]
        for job in as_completed(jobs):
            job.result()
            progress.advance(bar)
    print(f"{len(indices)} phantoms in {args.output} ({len(todo)} new)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
