"""The benchmark: its tasks, each measured in its own process, and the measurement in such a process."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from brats_clip.cases import SEQUENCES, find_cases
from brats_clip.errors import InputError
from brats_clip.evaluation import collect_run_info, write_metrics_csv
from brats_clip.evaluation.plots import new_figure, plain, save_figure
from brats_clip.evaluation.run_info import processor
from brats_clip.images import atomic_write
from brats_clip.phantoms import draw_phantom, write_phantom

from .benchmark_networks import Answer, Meter, monai_pipeline, window_of
from .shared import render, sequences_of

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


def summarise(rows: Sequence[dict]) -> list[dict]:
    """Return a row per network and answer: medians, range of the seconds, and ratios to this network's first answer."""
    table, summary = pd.DataFrame(rows), []
    groups = dict(list(table.groupby(["network", "answer"])))
    for network, answer in sorted(groups, key=lambda key: (list(NAMES).index(key[0]), ANSWERS.index(key[1]))):
        group = groups[network, answer]
        medians = {m: group[m].median() for m in MEASURES if m in group and group[m].notna().all()}
        seconds = group["seconds"]
        line = {"network": network, "answer": answer, **medians, "fastest": seconds.min(), "slowest": seconds.max()}
        asked = answer in (WITH_REPORT, ADDED, CHANGED)
        summary.append(line | {"repeats": len(group), "set_aside": asked and not group["report_used"].all()})
    ours = next((row for row in summary if (row["network"], row["answer"]) == (OURS, FIRST)), None)
    for row in summary if ours else ():
        row |= {f"{m}_ratio": row[m] / ours[m] for m in ("seconds", "peak_gib")}
    return summary


def summary_sentences(summary: Sequence[dict]) -> list[str]:
    """Summarise the results in sentences; none without this network's first answer."""
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


def to_markdown(summary: Sequence[dict], failures: dict[str, str], run: Mapping, trial: bool) -> str:
    """Return the page: the table, its summary, the method and the hardware."""
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
    columns = {head: text for head, text in columns.items() if present.get(head, "answer") in summary[0]}
    sentences = summary_sentences(summary)
    aside = (row["answer"].capitalize() for row in summary if row["set_aside"])
    sentences += [f"{answer}: set the report aside, so less was done." for answer in aside]
    sentences += [f"{NAMES[name]} failed: {why}" for name, why in failures.items()]
    rows = [[text(row) for text in columns.values()] for row in summary]
    return render("benchmark", heads=list(columns), rows=rows, sentences=sentences, trial=trial, run=run)


def draw(summary: Sequence[dict], stem: Path, hardware: str) -> None:
    """Plot seconds and peak memory as bars."""
    picture = new_figure(11, 1.2 + 0.4 * len(summary))
    panels = picture.subplots(1, 2, sharey=True)
    names = [f"{NAMES[row['network']]}, {row['answer']}" for row in summary]
    colours = ["#0072b2" if row["network"] == OURS else "#9aa5b1" for row in summary]
    for axes, key, title in zip(panels, ("seconds", "peak_gib"), ("seconds", "peak memory, GiB"), strict=True):
        bars = axes.barh(names, [row[key] for row in summary], color=colours)
        ratios = [f"  ({row[f'{key}_ratio']:.2f}x)" if f"{key}_ratio" in row else "" for row in summary]
        texts = [f"{row[key]:.2f}{ratio}" for row, ratio in zip(summary, ratios, strict=True)]
        axes.bar_label(bars, texts, padding=3, fontsize=8)
        axes.set_xlim(0, 1.3 * max(row[key] for row in summary))
        plain(axes, title, "x")
    panels[0].invert_yaxis()
    picture.suptitle(f"From four NIfTI files to a mask (ratio to this network's first answer). {hardware}", fontsize=9)
    save_figure(picture, stem)


SCRIPT = Path(__file__).resolve().parents[1] / "benchmark.py"
WEIGHTS = Path(__file__).resolve().parents[2] / "bundle" / "models" / "model.pt"

# As long as TextBraTS reports (97 words on average), so that CLIP's text encoder has its usual workload. They name no
# location: a report whose location contradicts the image would not be used, and nothing would be decoded.
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


def _find_case(folder: Path) -> dict:
    cases = find_cases(folder)
    if len(cases) > 1:
        raise InputError(folder, f"{len(cases)} cases", "the folder of one case")
    if any("#" in Path(cases[0][sequence]).name for sequence in SEQUENCES):
        raise InputError(folder, "a 4D file", "four files, one for each sequence")
    for sequence in SEQUENCES:
        Path(cases[0][sequence]).read_bytes()  # fills the disk cache, or only the first network would wait for the disk
    return cases[0]


def run_in_subprocess(task: dict) -> tuple[list[dict], str | None]:
    """Run ``measure`` in a new process; return its rows, or no rows and the reason why it failed."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        command = [sys.executable, str(SCRIPT), "--task", json.dumps(task | {"rows": str(rows)})]
        environment = os.environ | {"OMP_NUM_THREADS": str(task["threads"])}
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if ended.returncode == 0:
            common = {"case": task["case"]["case"], "network": task["network"], "repeat": task["repeat"]}
            return [common | row for row in json.loads(rows.read_text())], None
    if ended.returncode < 0:
        return [], f"ended by signal {-ended.returncode} (9: usually out of memory)"
    said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
    return [], said[-1].removeprefix("benchmark: ")


def compare(args: argparse.Namespace, folder: Path, console: Console) -> dict[str, str]:
    """Measure, and write and print the results; return the failed networks with their reasons."""
    torch.set_num_threads(args.threads)
    command = shlex.join(["python", "scripts/benchmark.py", *sys.argv[1:]])
    run = collect_run_info(command, args.checkpoint or WEIGHTS)  # first, since it checks that the weights exist
    if args.case is None:
        console.print("Drawing a phantom.")
        grid = [args.size] if args.size else []
        args.case = write_phantom(draw_phantom(args.seed), folder, f"PHANTOM_{args.seed}", *grid)
    case = _find_case(args.case)
    run |= {"case": case["case"], "device": args.device, "warm-up": args.warm_up}
    run |= {"processor": processor(), "cores": os.cpu_count(), "threads": args.threads}
    rows, failures = [], {}
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    # Refreshed rarely: the bar shares the cores with the measured process.
    with Progress(*columns, console=console, refresh_per_second=1) as progress:
        tasks = tasks_of(args, case)
        bar = progress.add_task("", total=len(tasks))
        for task in tasks:
            progress.update(bar, description=NAMES[task["network"]])
            if task["network"] not in failures:
                more, failure = run_in_subprocess(task)
                rows += more
                failures |= {task["network"]: failure} if failure else {}
            progress.advance(bar)
    for name, why in failures.items():
        console.print(f"Error: {NAMES[name]}: {why}", style="red")
    if rows:
        summary = summarise(rows)
        write_metrics_csv(rows, args.output / "benchmark.csv")
        with atomic_write(args.output / "benchmark.md") as draft:
            draft.write_text(to_markdown(summary, failures, run, args.size is not None), encoding="utf-8")
        draw(summary, args.output / "benchmark", run["hardware"])
        console.print(
            "\n".join([*summary_sentences(summary), f"Wrote {args.output}/benchmark.md, .csv, .png and .svg."])
        )
    return failures


def tasks_of(args: argparse.Namespace, case: dict) -> list[dict]:
    """Return the tasks, repeat by repeat, so that a slowdown of the machine affects every network."""
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


def measure(task: dict) -> list[dict]:
    """Run one of ``tasks_of`` in this process, and return its rows."""
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
    from brats_clip import Segmenter  # deferred, so that the other networks' processes do not load CLIP

    meter = Meter(device, folder)
    files = sequences_of(task["case"])
    report = REPORTS[0] if task["with_report"] else None
    results = []

    def prompt(**prompts: object) -> tuple[np.ndarray, np.ndarray]:
        results[:] = [segmenter.segment(**prompts)]  # keeps one answer only, as a viewer does
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
        del segmenter  # frees its cases, too, before the measured one allocates memory
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


def changed_reports() -> list[str]:
    """Return another report, then edited versions of it, each without a different sentence."""
    sentences = REPORTS[1].split(". ")
    return [REPORTS[1]] + [". ".join(sentences[:n] + sentences[n + 1 :]) for n in (1, 3, 5)]


def _voxel_to_click(label: np.ndarray, image: str) -> list[int]:
    """Return a voxel of the predicted tumour, or of the brain if there is none."""
    voxels = np.argwhere(label if label.any() else np.asarray(nib.load(image).dataobj))
    return voxels[len(voxels) // 2].tolist()
