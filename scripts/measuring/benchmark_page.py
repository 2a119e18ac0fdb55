"""The page of the benchmark: table, picture, and what its figures mean nothing without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from brats_clip.evaluation import atomic_write

from .benchmark_summary import in_short
from .benchmark_tasks import NAMES, OURS

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
