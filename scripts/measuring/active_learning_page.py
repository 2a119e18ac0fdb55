"""The page of a simulation of active learning: tables, picture, and the sentences between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brats_clip.evaluation.plots import SOFT, new_figure, plain, save_figure
from brats_clip.evaluation.summary import statistics
from brats_clip.evaluation.tables import figure, markdown_facts, markdown_table
from brats_label.active.choose import ORDERS

from .active_learning_rounds import BASELINE
from .active_learning_summary import WANTED_SHARE, in_short
from .region_dice import MEASURES

NAME = "simulate_active_learning"
COLOURS = dict(zip(ORDERS, ("#5c6775", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00"), strict=True))


def to_markdown(rows: Sequence[dict], summary: Sequence[dict], run: Mapping, failures: Mapping[str, str]) -> str:
    """The tables, what they come to, and what their figures mean nothing without."""
    labels = sorted({row["labels"] for row in rows})
    dices: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        dices.setdefault((row["strategy"], row["labels"]), []).append(row["dice_mean"])
    curves = []
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        cells = [statistics(dices.get((strategy, n), [])) for n in labels]
        curves.append([strategy, *(figure(cell["mean"], cell["std"]) for cell in cells)])
    ends = [
        [
            line["strategy"],
            line["seeds"],
            *(figure(line[f"final_{m}"], line[f"final_{m}_sd"]) for m in MEASURES),
            "-" if line["strategy"] == BASELINE else figure(line["gain"], line["gain_sd"], "+"),
            figure(line["share"], line["share_sd"], digits=2),
            line["never"],
        ]
        for line in summary
    ]
    head = ["strategy", "repeats", *(f"final Dice {m}" for m in MEASURES), "gain", "share of labels", "never"]
    return "\n".join(
        [
            "# Simulated active learning\n",
            "## Mean Dice against labelled cases\n",
            *markdown_table(["strategy", *(f"{n} labels" for n in labels)], curves),
            "\nMean of the three regions over the test cases; mean ± standard deviation over repeats. All strategies "
            "share the first column's network within a repeat.\n",
            "## At the end\n",
            *markdown_table(head, ends),
            "\nGain: of the mean Dice over all rounds to that of random in the same repeat. Share of labels: needed to "
            "reach random's final Dice for the first time, of the labels random had at its end; never: repeats that do "
            "not get there. Random's own share is below 1 where its curve was up there before: that much is noise.\n",
            *(f"- {sentence}" for sentence in in_short(summary)),
            f"\n![Dice against labelled cases]({NAME}.svg)\n",
            *markdown_facts(run),
            *(f"- failed: {name}: {reason}" for name, reason in failures.items()),
            "",
        ]
    )


def draw(rows: Sequence[dict], summary: Sequence[dict], stem: Path) -> None:
    """Curves: mean and standard deviation over repeats; and how many labels each repeat needed."""
    picture = new_figure(12, 4.6)
    left, right = picture.subplots(1, 2, width_ratios=(3, 2))
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    for place, strategy in enumerate(strategies):
        mine = [row for row in rows if row["strategy"] == strategy]
        labels = sorted({row["labels"] for row in mine})
        found = [statistics(row["dice_mean"] for row in mine if row["labels"] == n) for n in labels]
        mean, sd = (np.array([cell[key] or 0.0 for cell in found]) for key in ("mean", "std"))
        style = {"color": COLOURS[strategy], "ls": "--" if strategy == BASELINE else "-"}
        left.fill_between(labels, mean - sd, mean + sd, color=COLOURS[strategy], alpha=0.08, lw=0)
        left.plot(labels, mean, lw=2, marker="o", ms=3.5, label=strategy, **style)
        line = next((line for line in summary if line["strategy"] == strategy), None)
        if line is not None and line["share"] is not None:
            bar = {"fmt": "o", "color": COLOURS[strategy], "ms": 6, "capsize": 3}
            right.errorbar(line["share"], place, xerr=line["share_sd"] or 0.0, **bar)
        if line is not None and line["never"]:
            right.annotate(f"never in {line['never']} of {line['seeds']}", (1.02, place), fontsize=8, va="center")
    plain(left, "Dice, mean of the three regions", "both")
    left.set_xlabel("labelled cases", fontsize=9)
    left.legend(frameon=False, fontsize=8, loc="lower right")
    plain(right, "labels needed, as a share of random's", "x")
    right.set_yticks(range(len(strategies)), strategies)
    right.set_ylim(len(strategies) - 0.5, -0.5)
    right.set_xlim(0, 1.35)
    for share in (WANTED_SHARE, 1.0):
        right.axvline(share, color=SOFT, lw=0.9, ls=":")
    repeats = len({row["seed"] for row in rows})
    spread = "mean ± sd over repeats" if repeats > 1 else "no spread"
    picture.suptitle(f"{repeats} repeat{'s' * (repeats > 1)}: {spread}", fontsize=9)
    save_figure(picture, stem)
