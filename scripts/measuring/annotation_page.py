"""The page of simulated annotation: tables, picture, and the sentences between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brats_clip.evaluation.labelled import WRITTEN
from brats_clip.evaluation.plots import SOFT, new_figure, plain, save_figure
from brats_clip.evaluation.tables import figure, markdown_facts, markdown_table

from .annotation_summary import TARGETS, WAYS, in_short, over_repeats
from .region_dice import MEASURES

NAME = "simulate_annotation"
LINES = dict(zip(WAYS, ((SOFT, "--"), ("#0b5cad", "-")), strict=True))
FEW_CASES = 5  # up to so many get a line each in the picture


def to_markdown(
    summary: Sequence[dict], reached: Sequence[dict], rows: Sequence[dict], run: Mapping, failures: Mapping[str, str]
) -> str:
    """The tables, what they come to, and what their figures mean nothing without."""
    dice = [
        [
            s["report"],
            s["clicks"],
            *(figure(s[f"dice_{m}"], s[f"dice_{m}_sd"]) for m in MEASURES),
            figure(s["gain_mean"], s["gain_mean_sd"], "+") if s["clicks"] else "",
            f"{s['obeyed']} of {s['asked']}" if s["asked"] else "",
            figure(s["seconds"], digits=2),
            figure(s["furthest_mm"], digits=1) if s["clicks"] else "",
        ]
        for s in summary
    ]
    head = ["report", "clicks", *(f"Dice {m}" for m in MEASURES), "gain", "obeyed", "seconds", "furthest (mm)"]
    most = max(s["clicks"] for s in summary)
    clicks = [
        [
            line["report"],
            line["region"],
            f"{line['target']:.2f}",
            f"> {most}" if line["median"] is None else f"{line['median']:g}",
            figure(line["clicks"], line["clicks_sd"], digits=1),
            f"{line['never']:.0%}",
        ]
        for line in reached
    ]
    cases = {row["case"]: row for row in rows if row["report"] == "with" and row["clicks"] == 0}
    written = sum(row["source"] == WRITTEN for row in cases.values())
    unused = sum(not row["report_used"] for row in cases.values())
    facts = {"cases": len({row["case"] for row in rows}), "runs per case": len({row["repeat"] for row in rows})}
    if cases:
        own = len(cases) - written
        facts["reports"] = (
            f"{own} of the cases' own, {written} written from the label (a case without one); {unused} not used, "
        )
        facts["reports"] += "since they put the tumour where the image does not show it"
    return "\n".join(
        [
            "# What clicks achieve\n",
            *markdown_table(head, dice),
            "\nDice: mean ± standard deviation over cases. Gain: of the mean Dice over the answer without a click, on "
            "the same case. Obeyed: clicked voxels that are what was clicked, of all clicks so far. Seconds: median "
            "for one answer; reading and encoding the case come before the first. Furthest: of all voxels that changed "
            "against the answer without a click, from the nearest click. A robot that sees nothing worth a click "
            "stops; its last answer counts on.\n",
            "## Clicks to reach a Dice\n",
            *markdown_table(["report", "region", "Dice", "median", "mean of those that do", "never"], clicks, 2),
            f"\nMedian over all runs; never: share of runs that do not get there within {most} clicks.\n",
            *(f"- {sentence}" for sentence in in_short(summary)),
            f"\n![Dice against clicks]({NAME}.svg)\n",
            *markdown_facts(facts | dict(run)),
            *(f"- failed: {case}: {reason}" for case, reason in failures.items()),
            "",
        ]
    )


def draw(summary: Sequence[dict], rows: Sequence[dict], stem: Path, robot: str) -> None:
    """Dice against clicks, a panel per region: mean and standard deviation over cases, and few cases one by one."""
    picture = new_figure(13, 4)
    for axes, measure in zip(picture.subplots(1, len(MEASURES), sharey=True), MEASURES, strict=True):
        for report, (colour, dash) in LINES.items():
            lines = [line for line in summary if line["report"] == report]
            if not lines:
                continue
            x = [line["clicks"] for line in lines]
            mean, sd = (np.array([line[f"dice_{measure}{end}"] or 0 for line in lines]) for end in ("", "_sd"))
            axes.fill_between(x, np.maximum(mean - sd, 0), np.minimum(mean + sd, 1), color=colour, alpha=0.13, lw=0)
            by_case = over_repeats(rows, report, f"dice_{measure}")
            for case in by_case.values() if 1 < len(by_case) <= FEW_CASES else ():
                axes.plot(x, [case[n] for n in x], color=colour, ls=dash, lw=0.7, alpha=0.45)
            axes.plot(x, mean, color=colour, ls=dash, lw=2, marker="o", ms=3.5, label=f"{report} a report")
        for target in TARGETS:
            axes.axhline(target, color=SOFT, lw=0.9, ls=":")
        plain(axes, f"Dice, {measure}" if measure != "mean" else "Dice, mean of the three", "both")
        axes.set_xlabel("clicks", fontsize=9)
        axes.set_ylim(0, 1.01)
        axes.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = picture.axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    cases, runs = len({row["case"] for row in rows}), len({row["repeat"] for row in rows})
    spread = "mean ± sd over cases" if cases > 1 else "one case, no spread"
    counted = f"{cases} case{'s' * (cases > 1)}, {runs} run{'s' * (runs > 1)} each"
    picture.suptitle(f"{counted}, {robot}: {spread}", fontsize=9)
    save_figure(picture, stem)
