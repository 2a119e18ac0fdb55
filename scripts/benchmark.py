#!/usr/bin/env python
"""Measure seconds and peak memory, from four NIfTI files to a written mask, beside three networks of MONAI.

    python scripts/benchmark.py --case /data/BraTS2021/BraTS2021_00000 --output runs/benchmark

This network: first answer, then changed reports and a click on the case it has encoded. MONAI's: SegResNet as in the
model zoo's BraTS bundle, SwinUNETR as in the BraTS tutorial, DynUNet in nnU-Net's BraTS configuration. Every
measurement has a process of its own. Leaves benchmark.csv, benchmark.md, benchmark.png and benchmark.svg.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

import nibabel as nib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import DynUNet, SegResNet, SwinUNETR
from monai.transforms import Compose, CropForegroundd, EnsureTyped, Invertd, LoadImaged, NormalizeIntensityd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from brats_clip.cases import SEQUENCES, find_cases
from brats_clip.errors import BratsClipError, InputError
from brats_clip.evaluation import atomic_write, collect_run_info
from brats_clip.evaluation.summary import write_metrics_csv
from brats_clip.phantoms import draw_phantom, write_phantom

WEIGHTS = Path(__file__).resolve().parents[1] / "bundle" / "models" / "model.pt"
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
MEASURES = ("seconds", "writing", "peak_gib", "above_imports_gib", "gpu_gib", "clip_share")
Answer = Callable[[], tuple[np.ndarray, np.ndarray]]  # gives a label map (X, Y, Z) and its affine
GIB = 2**30
SMALLEST = 64  # voxels; DynUNet halves five times, and a single voxel has no instance statistics
# As long as TextBraTS reports are (97 words on average), so that CLIP's text encoder has its usual work. They name no
# place: one that names another than the image shows would be set aside, and nothing would be decoded.
REPORTS = (
    "There is a ring-enhancing mass with a thick and irregular rim. It measures about 45 mm in its largest diameter. "
    "Its centre does not enhance and is hypointense on T1, in keeping with necrosis. Tumour core without enhancement "
    "lies beside the rim. Marked oedema surrounds the mass and is hyperintense on T2 and FLAIR. The volume of the "
    "oedema is about four times that of the core. On T2 the core is heterogeneous, with darker foci that may be blood "
    "products. The neighbouring sulci are effaced, and there is marked mass effect. No second lesion is seen.",
    "The lesion enhances in part after contrast agent, mostly as a thin rim with a nodule of about 12 mm. Its largest "
    "diameter is about 60 mm. The border to the oedema is unclear. On T1 the signal of the core is lower than that of "
    "grey matter. On T2 the lesion is bright and almost homogeneous. About half of the core is necrotic. The oedema is "
    "extensive on FLAIR and reaches far beyond the enhancing part. Mass effect is moderate. There are no further "
    "lesions. The appearance is that of a glioma of high grade.",
)


def changed_reports() -> list[str]:
    """Another report, then this one as a person edits it: each time with another sentence left out."""
    sentences = REPORTS[1].split(". ")
    return [REPORTS[1]] + [". ".join(sentences[:n] + sentences[n + 1 :]) for n in (1, 3, 5)]


NOTES = (
    "A first answer counts from four NIfTI files to the label map on disk. A re-prompt counts to the label map in "
    "memory, since a server sends it; what writing it would add is in the column beside it.",
    "Starting Python, imports, building the network and loading weights are not in the seconds, since a server keeps "
    "them. They are in the peak memory, which is that of the whole process; above imports leaves out what the process "
    "held once the libraries were loaded. The files were read once before, so nobody waits for the disk.",
    "Seconds and memory do not depend on the weights. Those of MONAI's networks are random (seeded), but for a last "
    "layer that answers background everywhere, so that their seconds hold no compressing of noise.",
    "SegResNet: init_filters 16, blocks 1-2-2-4 and 1-1-1, window 240x240x160, whole volume. SwinUNETR: feature_size "
    "48, windows 128x128x128, whole volume. DynUNet: 32-64-128-256-320-320, windows 128x128x128 with Gaussian weights, "
    "crop to the brain, without nnU-Net's mirroring, which takes eight times as long. All: overlap 0.5, one window at "
    "a time, float32 on a CPU and mixed precision on a GPU.",
)


# MONAI's networks


def build_network(name: str) -> torch.nn.Module:
    """One of MONAI's networks as it is used for BraTS, ``(N, 4, X, Y, Z)`` to ``(N, 3, X, Y, Z)``; answers nothing."""
    torch.manual_seed(0)
    if name == "segresnet":
        network = SegResNet(3, 16, 4, 3, dropout_prob=0.2, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1))
    elif name == "swinunetr":
        network = SwinUNETR(in_channels=4, out_channels=3, feature_size=48)
    else:
        strides, filters = [1, 2, 2, 2, 2, 2], [32, 64, 128, 256, 320, 320]
        network = DynUNet(3, 4, 3, [3] * 6, strides, strides[1:], filters, norm_name=("INSTANCE", {"affine": True}))
    (head,) = (m for m in network.modules() if isinstance(m, torch.nn.Conv3d) and m.out_channels == 3)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.constant_(head.bias, -1.0)
    return network.eval()


def window_of(name: str, size: Sequence[int], trial: bool = False) -> tuple[int, ...]:
    """The sliding window of a network; in a trial no larger than the small volume of ``size`` needs."""
    window = (240, 240, 160) if name == "segresnet" else (128, 128, 128)
    if not trial:
        return window
    return tuple(min(w, max(SMALLEST, -(-s // 32) * 32)) for w, s in zip(window, size, strict=True))


def monai_pipeline(name: str, case: dict, device: torch.device, window: Sequence[int]) -> Answer:
    """Build a network and what its configuration has around it; each call reads and segments the case."""
    network = build_network(name).to(device)
    inferer = SlidingWindowInferer(window, 1, overlap=0.5, mode="gaussian" if name == "dynunet" else "constant")
    crop = [CropForegroundd("image", source_key="image", allow_smaller=True)] if name == "dynunet" else []
    normalise = NormalizeIntensityd("image", nonzero=True, channel_wise=True)
    preprocess = Compose([LoadImaged("image"), EnsureTyped("image", device=device), *crop, normalise])
    invert = Invertd("pred", preprocess, orig_keys="image", nearest_interp=False)
    torch.backends.cudnn.benchmark = True  # as the model zoo's bundle has it

    def answer() -> tuple[np.ndarray, np.ndarray]:
        data = preprocess({"image": [case[s] for s in ("t1ce", "t1", "t2", "flair")]})
        with torch.no_grad(), torch.autocast(device.type, enabled=device.type == "cuda"):
            pred = inferer(data["image"][None], network)[0].float().sigmoid()
        data["pred"] = MetaTensor(pred, meta=data["image"].meta)
        tc, wt, et = invert(data)["pred"] > 0.5
        label = torch.where(et, 4, torch.where(tc, 1, torch.where(wt, 2, 0))).to(torch.uint8)
        return label.cpu().numpy(), data["image"].meta["original_affine"]

    return answer


# One measurement, in a process of its own


def peak_bytes() -> int:
    """The most memory this process has held.

    On Linux not ``ru_maxrss``: there a process inherits the peak of the one that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def start_peak_anew() -> None:
    """Let ``peak_bytes`` count from now on; where the system cannot, it goes on counting from the start."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class Meter:
    """Take the time and the memory of one answer after another. Make it after the imports, before the network."""

    def __init__(self, device: torch.device, folder: Path):
        self.device, self.folder = device, folder
        self.rows: list[dict] = []
        start_peak_anew()
        self.imports = peak_bytes()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def take(self, name: str, answer: Answer) -> dict:
        """Run ``answer``, write what it gives, and return (and keep) what that took."""
        first = not self.rows
        if not first:  # the peak of a first answer includes building the network
            start_peak_anew()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        begun = self._now()
        label, affine = answer()
        answered = self._now()
        nib.save(nib.Nifti1Image(label, affine), self.folder / "mask.nii.gz")
        written = self._now()
        peak = peak_bytes()
        row = {"answer": name, "seconds": (written if first else answered) - begun, "writing": written - answered}
        row |= {"peak_gib": peak / GIB, "above_imports_gib": (peak - self.imports) / GIB}
        if self.device.type == "cuda":
            row["gpu_gib"] = torch.cuda.max_memory_allocated(self.device) / GIB
        self.rows.append(row)
        return row


def measure(task: dict) -> list[dict]:
    """Measure what a task of ``tasks_of`` names, in this process."""
    torch.set_num_threads(task["threads"])
    device = torch.device(task["device"])
    with tempfile.TemporaryDirectory() as folder:
        if task["network"] == OURS:
            return _measure_ours(task, device, Path(folder))
        meter = Meter(device, Path(folder))
        answer = monai_pipeline(task["network"], task["case"], device, task["window"])
        if task["warm_up"]:
            answer()
        meter.take(FIRST, answer)
        return meter.rows


def _measure_ours(task: dict, device: torch.device, folder: Path) -> list[dict]:
    from brats_clip import Segmenter  # here, so that the processes of the others do not carry CLIP

    meter = Meter(device, folder)
    files = {sequence: task["case"][sequence] for sequence in SEQUENCES}
    report = REPORTS[0] if task["with_report"] else None
    results = []

    def prompt(**prompts: object) -> tuple[np.ndarray, np.ndarray]:
        results[:] = [segmenter.segment(**prompts)]  # one answer at a time, as a viewer keeps it
        return results[0].label, results[0].affine

    def first() -> tuple[np.ndarray, np.ndarray]:
        segmenter.set_case(**files)
        return prompt(report=report)

    def take(name: str, answer: Answer) -> dict:
        row = meter.take(name, answer)
        stages = {f"{stage}_seconds": seconds for stage, seconds in results[0].seconds.items()}
        return row | {"report_used": results[0].report_used, **stages}

    if task["warm_up"]:
        segmenter = Segmenter(checkpoint=task["checkpoint"], device=device)
        first()
        results.clear()
        del segmenter  # with its cases, before the one that is measured takes its memory
    segmenter = Segmenter(checkpoint=task["checkpoint"], device=device)
    rows = [take(WITH_REPORT if report else FIRST, first)]
    rows[0]["clip_share"] = (rows[0]["slices_seconds"] + rows[0]["report_seconds"]) / rows[0]["seconds"]
    if not report:
        clicks = {"WT": [_voxel_to_click(results[0].label, files["t1ce"])]}
        rows.append(take(ADDED, lambda: prompt(report=REPORTS[0])))
        for report in changed_reports():
            rows.append(take(CHANGED, lambda report=report: prompt(report=report)))
        rows.append(take(CLICK, lambda: prompt(clicks=clicks)))
    return rows


def _voxel_to_click(label: np.ndarray, image: str) -> list[int]:
    """A voxel of the tumour that was found, or of the brain where none was."""
    voxels = np.argwhere(label if label.any() else np.asarray(nib.load(image).dataobj))
    return voxels[len(voxels) // 2].tolist()


# All measurements


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


def summarise(rows: Sequence[dict]) -> list[dict]:
    """One row per network and answer: medians, the range of the seconds, and ratios to this network's first answer."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in sorted(rows, key=lambda row: (list(NAMES).index(row["network"]), ANSWERS.index(row["answer"]))):
        groups.setdefault((row["network"], row["answer"]), []).append(row)
    summary = []
    for (network, answer), group in groups.items():
        medians = {m: statistics.median(r[m] for r in group) for m in MEASURES if all(m in r for r in group)}
        seconds = [row["seconds"] for row in group]
        spread = {"fastest": min(seconds), "slowest": max(seconds), "repeats": len(group)}
        spread["set_aside"] = answer in (WITH_REPORT, ADDED, CHANGED) and not all(r["report_used"] for r in group)
        summary.append({"network": network, "answer": answer, **medians, **spread})
    ours = next((row for row in summary if (row["network"], row["answer"]) == (OURS, FIRST)), None)
    for row in summary if ours else ():
        row |= {f"{m}_ratio": row[m] / ours[m] for m in ("seconds", "peak_gib")}
    return summary


def in_short(summary: Sequence[dict]) -> list[str]:
    """What the figures come to, in sentences; none without this network's first answer."""
    rows = {(row["network"], row["answer"]): row for row in summary}
    if (OURS, FIRST) not in rows:
        return []
    lines = [
        f"{NAMES[name]}: {row['seconds_ratio']:.1f} times the seconds of this network's first answer, "
        f"which peaks at {1 / row['peak_gib_ratio']:.0%} of its memory."
        for (name, _), row in rows.items()
        if name != OURS
    ]
    lines += [
        f"{answer.capitalize()}: {rows[OURS, answer]['seconds_ratio']:.1%} of the first answer's seconds."
        for answer in (ADDED, CHANGED, CLICK)
    ]
    shares = {answer: rows.get((OURS, answer), {}).get("clip_share") for answer in (FIRST, WITH_REPORT)}
    return lines + [f"CLIP's share of the {a}: {share:.1%}." for a, share in shares.items() if share is not None]


# What people look at


def to_markdown(summary: Sequence[dict], failures: dict[str, str], run: dict, trial: bool) -> str:
    """The table, what it comes to, how it was measured, and on what."""
    columns = {
        "network": lambda row: NAMES[row["network"]],
        "answer": lambda row: row["answer"],
        "seconds": lambda row: f"{row['seconds']:.2f}",
        "range (n)": lambda row: f"{row['fastest']:.2f} to {row['slowest']:.2f} ({row['repeats']})",
        "ratio": lambda row: f"{row['seconds_ratio']:.2f}",
        "writing (s)": lambda row: f"{row['writing']:.2f}",
        "peak memory (GiB)": lambda row: f"{row['peak_gib']:.2f}",
        "ratio of peaks": lambda row: f"{row['peak_gib_ratio']:.2f}",
        "above imports (GiB)": lambda row: f"{row['above_imports_gib']:.2f}",
        "GPU memory (GiB)": lambda row: f"{row['gpu_gib']:.2f}",
    }
    present = {"ratio": "seconds_ratio", "ratio of peaks": "peak_gib_ratio", "GPU memory (GiB)": "gpu_gib"}
    columns = {head: cell for head, cell in columns.items() if present.get(head, "answer") in summary[0]}
    table = [list(columns), ["---"] * len(columns), *([cell(row) for cell in columns.values()] for row in summary)]
    lines = ["# Benchmark", "", *(f"| {' | '.join(cells)} |" for cells in table), ""]
    lines += ["Medians; ratios are to this network's first answer.", "", *(f"- {line}" for line in in_short(summary))]
    lines += [
        f"- {row['answer'].capitalize()}: set the report aside, so less was done."
        for row in summary
        if row["set_aside"]
    ]
    lines += [f"- {NAMES[name]} failed: {why}" for name, why in failures.items()]
    if trial:
        lines += ["", "**A trial on a small phantom, with windows cut to its size: these figures say nothing.**"]
    lines += ["", "## What is counted", "", *(f"- {note}" for note in NOTES), "", "## Run", ""]
    return "\n".join([*lines, *(f"- {key}: {value}" for key, value in run.items() if value is not None)]) + "\n"


def draw(summary: Sequence[dict], path: Path, hardware: str) -> None:
    """Bars of seconds and of peak memory, as PNG or SVG by the ending of ``path``."""
    figure = Figure(figsize=(11, 1.2 + 0.4 * len(summary)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    names = [f"{NAMES[row['network']]}, {row['answer']}" for row in summary]
    colours = ["#0072b2" if row["network"] == OURS else "#9aa5b1" for row in summary]
    for axes, key, title in zip(panels, ("seconds", "peak_gib"), ("seconds", "peak memory, GiB"), strict=True):
        bars = axes.barh(names, [row[key] for row in summary], color=colours)
        ratios = [f"  ({row[f'{key}_ratio']:.2f}x)" if f"{key}_ratio" in row else "" for row in summary]
        texts = [f"{row[key]:.2f}{ratio}" for row, ratio in zip(summary, ratios, strict=True)]
        axes.bar_label(bars, texts, padding=3, fontsize=8)
        axes.set_xlim(0, 1.3 * max(row[key] for row in summary))
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    figure.suptitle(f"From four NIfTI files to a mask (ratio to this network's first answer). {hardware}", fontsize=9)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)


# The command


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
    kind = args.device.partition(":")[0]
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        parser.error("--device must be cpu, or cuda where there is a GPU")
    if args.warm_up is None:
        args.warm_up = kind == "cuda"
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
            return int(bool(_benchmark(args, Path(folder), Console(soft_wrap=True, markup=False, highlight=False))))
    except BratsClipError as error:
        sys.stderr.write(f"benchmark: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
