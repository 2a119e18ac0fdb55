"""What the benchmark compares, and the tasks that this takes, each for a process of its own."""

from __future__ import annotations

import argparse

import nibabel as nib

from .benchmark_networks import window_of

OURS = "brats_clip"
NAMES = {
    OURS: "this network",
    "segresnet": "SegResNet (model zoo)",
    "swinunetr": "SwinUNETR (tutorial)",
    "dynunet": "DynUNet (nnU-Net)",
}
FIRST, WITH_REPORT = "first answer", "first answer with a report"
ADDED, CHANGED, CLICK = "re-prompt: report added", "re-prompt: report changed", "re-prompt: click"
ANSWERS = (FIRST, WITH_REPORT, ADDED, CHANGED, CLICK)


def tasks_of(args: argparse.Namespace, case: dict) -> list[dict]:
    """What to measure, round by round, so that a machine that slows down does so for every network."""
    size = nib.load(case["t1ce"]).shape
    checkpoint = str(args.checkpoint) if args.checkpoint else None
    shared = {"case": case, "device": args.device, "threads": args.threads, "warm_up": args.warm_up}
    tasks = []
    for repeat in range(max(args.repeats, args.slow_repeats)):
        for network in args.networks:
            task = {"network": network, "repeat": repeat, **shared}
            if network == OURS and repeat < args.repeats:
                tasks += [task | {"checkpoint": checkpoint, "with_report": given} for given in (False, True)]
            elif network != OURS and repeat < args.slow_repeats:
                tasks.append(task | {"window": window_of(network, size, trial=args.size is not None)})
    return tasks
