#!/usr/bin/env python
"""Measure seconds and peak memory from four NIfTI files to a written mask, compared with three networks of MONAI.

    python scripts/benchmark.py --case /data/BraTS2021/BraTS2021_00000 --output runs/benchmark

For this network: the first answer, then changed reports and a click on the encoded case. MONAI's networks: SegResNet
as in the model zoo's BraTS bundle, SwinUNETR as in the BraTS tutorial, DynUNet in nnU-Net's BraTS configuration. Every
measurement runs in its own process. Writes benchmark.csv, benchmark.md, benchmark.png and benchmark.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from measuring.command import check_device, make_console

NAMES = ("brats_clip", "segresnet", "swinunetr", "dynunet")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--case", type=Path, help="folder of one case, named as BraTS names it (default: a phantom)")
    add("--output", type=Path, default=Path("runs/benchmark"), help="folder for the results (default: %(default)s)")
    add("--networks", default=",".join(NAMES), help="networks to measure, comma-separated (default: %(default)s)")
    add("--checkpoint", type=Path, help="weights of this network (default: the shipped ones)")
    add("--threads", type=int, default=cores, help="CPU threads (default: all cores, %(default)s)")
    add("--repeats", type=int, default=3, help="measurements of this network (default: %(default)s)")
    add("--slow_repeats", type=int, default=1, help="measurements of each of the others (default: %(default)s)")
    add("--device", help="cpu or cuda (default: a GPU if there is one)")
    warm = "answer once before timing (default: only on a GPU, whose libraries load at first use)"
    add("--warm_up", action=argparse.BooleanOptionalAction, default=None, help=warm)
    add("--seed", type=int, default=0, help="seed of the phantom (default: %(default)s)")
    add("--size", type=int, nargs=3, help="voxels of the phantom, for a trial run (default: 240 240 155)")
    add("--task", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    from measuring.benchmark_networks import SMALLEST  # deferred, so that --help is fast

    args.networks = list(dict.fromkeys(args.networks.split(",")))
    if unknown := [name for name in args.networks if name not in NAMES]:
        parser.error(f"--networks: unknown {', '.join(map(repr, unknown))}; choose from {', '.join(NAMES)}")
    if min(args.threads, args.repeats, args.slow_repeats) < 1 or args.seed < 0:
        parser.error("--threads, --repeats and --slow_repeats must be at least 1, --seed at least 0")
    if args.size and (args.case or min(args.size) < SMALLEST):
        parser.error(f"--size applies to a phantom, not to --case, and must be at least {SMALLEST} voxels")
    if args.device is None:
        import torch  # deferred, so that --help is fast

        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(parser, args.device)
    if args.warm_up is None:
        args.warm_up = args.device.startswith("cuda")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 if a network failed, 2 if the input is invalid."""
    args = _arguments(argv)
    from brats_clip.errors import BratsClipError
    from measuring import benchmark

    try:
        if args.task:
            task = json.loads(args.task)
            Path(task["rows"]).write_text(json.dumps(benchmark.measure(task)))
            return 0
        with tempfile.TemporaryDirectory() as folder:
            return int(bool(benchmark.compare(args, Path(folder), make_console())))
    except BratsClipError as error:
        sys.stderr.write(f"benchmark: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
