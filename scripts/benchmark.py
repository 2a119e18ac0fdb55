#!/usr/bin/env python
"""Measure seconds and peak memory, from four NIfTI files to a written mask, beside three networks of MONAI.

    python scripts/benchmark.py --case /data/BraTS2021/BraTS2021_00000 --output runs/benchmark

This network: first answer, then changed reports and a click on the case it has encoded. MONAI's: SegResNet as in the
model zoo's BraTS bundle, SwinUNETR as in the BraTS tutorial, DynUNet in nnU-Net's BraTS configuration. Every
measurement has a process of its own. Leaves benchmark.csv, benchmark.md, benchmark.png and benchmark.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from brats_clip.cases import SEQUENCES, find_cases
from brats_clip.errors import BratsClipError, InputError
from brats_clip.evaluation import atomic_write, collect_run_info
from brats_clip.evaluation.summary import write_metrics_csv
from brats_clip.phantoms import draw_phantom, write_phantom
from measuring.benchmark_measure import measure
from measuring.benchmark_networks import SMALLEST
from measuring.benchmark_page import draw, to_markdown
from measuring.benchmark_summary import in_short, summarise
from measuring.benchmark_tasks import NAMES, tasks_of
from measuring.command import check_device, make_console

WEIGHTS = Path(__file__).resolve().parents[1] / "bundle" / "models" / "model.pt"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--case", type=Path, help="folder of one case, named as BraTS names it (default: a phantom)")
    add("--output", type=Path, default=Path("runs/benchmark"), help="folder for the results (default: %(default)s)")
    add("--networks", default=",".join(NAMES), help="which, with commas between (default: %(default)s)")
    add("--checkpoint", type=Path, help="weights of this network (default: those it ships with)")
    add("--threads", type=int, default=cores, help="threads on the CPU (default: all cores, %(default)s)")
    add("--repeats", type=int, default=3, help="measurements of this network (default: %(default)s)")
    add("--slow-repeats", type=int, default=1, help="measurements of each of the others (default: %(default)s)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda (default: %(default)s)")
    warm = "answer once before the clock starts (default: on a GPU, whose libraries load at first use)"
    add("--warm-up", action=argparse.BooleanOptionalAction, default=None, help=warm)
    add("--seed", type=int, default=0, help="seed of the phantom (default: %(default)s)")
    add("--size", type=int, nargs=3, help="voxels of the phantom, to try the command out (default: 240 240 155)")
    add("--task", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.networks = list(dict.fromkeys(args.networks.split(",")))
    if unknown := [name for name in args.networks if name not in NAMES]:
        parser.error(f"--networks has {', '.join(map(repr, unknown))}; there are {', '.join(NAMES)}")
    if min(args.threads, args.repeats, args.slow_repeats) < 1 or args.seed < 0:
        parser.error("--threads, --repeats and --slow-repeats must be at least 1, --seed at least 0")
    if args.size and (args.case or min(args.size) < SMALLEST):
        parser.error(f"--size is for a phantom, not for --case, and at least {SMALLEST} voxels")
    check_device(parser, args.device)
    if args.warm_up is None:
        args.warm_up = args.device.startswith("cuda")
    return args


def _find_case(folder: Path) -> dict:
    cases = find_cases(folder)
    if len(cases) > 1:
        raise InputError(folder, f"{len(cases)} cases", "the folder of one case")
    if any("#" in Path(cases[0][sequence]).name for sequence in SEQUENCES):
        raise InputError(folder, "a 4D file", "four files, one for each sequence")
    for sequence in SEQUENCES:
        Path(cases[0][sequence]).read_bytes()  # the first network would wait for the disk on behalf of the others
    return cases[0]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    return next((s.partition(":")[2].strip() for s in lines if s.startswith("model name")), platform.machine())


def run_apart(task: dict) -> tuple[list[dict], str | None]:
    """Run ``measure`` in a fresh process; returns its rows, or no row and why it failed."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        command = [sys.executable, __file__, "--task", json.dumps(task | {"rows": str(rows)})]
        environment = os.environ | {"OMP_NUM_THREADS": str(task["threads"])}
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if ended.returncode == 0:
            common = {"case": task["case"]["case"], "network": task["network"], "repeat": task["repeat"]}
            return [common | row for row in json.loads(rows.read_text())], None
    if ended.returncode < 0:
        return [], f"ended by signal {-ended.returncode} (9: memory ran out, as a rule)"
    said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
    return [], said[-1].removeprefix("benchmark: ")


def _benchmark(args: argparse.Namespace, folder: Path, console: Console) -> dict[str, str]:
    """Measure, write and say what came out; returns which networks failed, and why."""
    torch.set_num_threads(args.threads)
    command = shlex.join(["python", "scripts/benchmark.py", *sys.argv[1:]])
    run = collect_run_info(command, args.checkpoint or WEIGHTS)  # first, as it checks that the weights are there
    if args.case is None:
        console.print("Drawing a phantom.")
        grid = [args.size] if args.size else []
        args.case = write_phantom(draw_phantom(args.seed), folder, f"PHANTOM_{args.seed}", *grid)
    case = _find_case(args.case)
    run |= {"case": case["case"], "device": args.device, "warm-up": args.warm_up}
    run |= {"processor": _processor(), "cores": os.cpu_count(), "threads": args.threads}
    rows, failures = [], {}
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    # Drawn seldom: the bar shares the cores with what is measured.
    with Progress(*columns, console=console, refresh_per_second=1) as progress:
        tasks = tasks_of(args, case)
        bar = progress.add_task("", total=len(tasks))
        for task in tasks:
            progress.update(bar, description=NAMES[task["network"]])
            if task["network"] not in failures:
                more, failure = run_apart(task)
                rows += more
                failures |= {task["network"]: failure} if failure else {}
            progress.advance(bar)
    for name, why in failures.items():
        console.print(f"Error: {NAMES[name]}: {why}", style="red")
    if rows:
        summary = summarise(rows)
        write_metrics_csv(rows, args.output / "benchmark.csv")
        with atomic_write(args.output / "benchmark.md") as temporary:
            temporary.write_text(to_markdown(summary, failures, run, args.size is not None), encoding="utf-8")
        for ending in ("png", "svg"):
            draw(summary, args.output / f"benchmark.{ending}", run["hardware"])
        console.print("\n".join([*in_short(summary), f"Wrote {args.output}/benchmark.md, .csv, .png and .svg."]))
    return failures


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 when a network failed, 2 when the input is of no use."""
    args = _arguments(argv)
    try:
        if args.task:
            task = json.loads(args.task)
            Path(task["rows"]).write_text(json.dumps(measure(task)))
            return 0
        with tempfile.TemporaryDirectory() as folder:
            return int(bool(_benchmark(args, Path(folder), make_console())))
    except BratsClipError as error:
        sys.stderr.write(f"benchmark: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
