"""The benchmark's figures: medians, ratios, table, picture, and what they mean nothing without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from brats_clip.evaluation.plots import new_figure, plain, save_figure

from .page import render

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
    """One row per network and answer: medians, the range of the seconds, and ratios to this network's first answer."""
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


def to_markdown(summary: Sequence[dict], failures: dict[str, str], run: Mapping, trial: bool) -> str:
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
    columns = {head: text for head, text in columns.items() if present.get(head, "answer") in summary[0]}
    sentences = in_short(summary)
    aside = (row["answer"].capitalize() for row in summary if row["set_aside"])
    sentences += [f"{answer}: set the report aside, so less was done." for answer in aside]
    sentences += [f"{NAMES[name]} failed: {why}" for name, why in failures.items()]
    rows = [[text(row) for text in columns.values()] for row in summary]
    return render("benchmark", heads=list(columns), rows=rows, sentences=sentences, trial=trial, run=run)


def draw(summary: Sequence[dict], stem: Path, hardware: str) -> None:
    """Bars of seconds and of peak memory."""
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
