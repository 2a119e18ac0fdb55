"""The page of what a report does: tables, picture, and the sentences between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from brats_clip.cases import SEQUENCES
from brats_clip.evaluation.labelled import WRITTEN
from brats_clip.evaluation.plots import COLOURS, SOFT, new_figure, plain, save_figure
from brats_clip.evaluation.tables import figure, markdown_facts, markdown_table

from .robustness_summary import MEASURES, difference, in_short, title
from .robustness_texts import NONE, TRUE

NAME = "report_robustness"


def to_markdown(summary: Sequence[dict], rows: Sequence[dict], run: dict, failures: dict[str, str]) -> str:
    """The tables, what they come to, and what their figures mean nothing without."""
    dice = [
        [title(s["kind"]), s["cases"], *(figure(s[f"dice_{m}"], s[f"dice_{m}_sd"]) for m in MEASURES)] for s in summary
    ]
    heads = ["WT", "TC", "ET", "mean", "ET, cases with ET"]
    changes = [[title(s["kind"]), *(difference(s, m) for m in MEASURES)] for s in summary if s["kind"] != NONE]
    scores = [
        [
            title(s["kind"]),
            figure(s["false_ET_ml_sum"], digits=2),
            figure(s["false_ET_ml_mean"]),
            *(figure(s.get(column), digits=2) for column in ("used", "consistency", "warned", "told_apart", "auc")),
        ]
        for s in summary
    ]
    cases = {r["case"]: r for r in rows}
    written = sum(r["report"] == WRITTEN for r in cases.values())
    missing = sorted({name for r in rows for name in r["sequences_missing"].split()}, key=SEQUENCES.index)
    unchanged = [f"{title(s['kind'])} ({s['unchanged']})" for s in summary if s["unchanged"]]
    without_et = next((s["cases_without_ET"] for s in summary if s["kind"] == NONE), 0)
    facts = {
        "cases": f"{len(cases)}, {without_et} of them without ET",
        "reports": f"{len(cases) - written} of the cases' own, {written} written from the label (a case without one)",
        "sequences left away": ", ".join(missing) or "none",
        "cases that a kind leaves as they are, left out of its row": ", ".join(unchanged) or "none",
    }
    head = ["report", "false ET, sum (ml)", "per case (ml)", "used", "consistency", "warned", "true above", "AUC"]
    return "\n".join(
        [
            "# What a report does\n",
            *markdown_table(["report", "cases", *(f"Dice {h}" for h in heads)], dice),
            "\nMean ± standard deviation over cases. A region that neither truth nor answer has scores 1, one that "
            "only one of them has 0.\n",
            "## Difference to no report on the same case\n",
            *markdown_table(["report", *heads], changes),
            "\nMean ± standard deviation over cases [95 % bootstrap interval of the mean].\n",
            f"## False ET in cases without ET (n={without_et}); consistency of report and image\n",
            *markdown_table(head, scores),
            "\nUsed: share of reports that the segmenter listened to. Consistency: mean score, 0 to 1. Warned: share "
            "of cases with a warning. True above, AUC: how often the true report of a case has the higher score, and "
            "the area under the ROC curve between both.\n",
            *(f"- {sentence}" for sentence in in_short(summary, rows)),
            f"\n![Dice, difference to no report, consistency]({NAME}.svg)\n",
            *markdown_facts(facts | run),
            *(f"- failed: {case}: {reason}" for case, reason in failures.items()),
            "",
        ]
    )


def draw(summary: Sequence[dict], rows: Sequence[dict], stem: Path) -> None:
    """Dice with its spread, the difference to no report with its interval, and every case's consistency score."""
    picture = new_figure(13, 1.5 + 0.5 * len(summary))
    panels = picture.subplots(1, 3, sharey=True, width_ratios=(1, 1, 0.7))
    regions = MEASURES[:4]
    for place, (region, colour) in enumerate((m, COLOURS[m]) for m in regions):
        for y, line in enumerate(summary):
            at, style = y + 0.18 * (place - 1.5), {"color": colour, "fmt": "o", "ms": 4, "lw": 1.2}
            label = region if y == 0 else None
            if line[f"dice_{region}"] is not None:
                spread = line[f"dice_{region}_sd"] or 0
                panels[0].errorbar(line[f"dice_{region}"], at, xerr=spread, label=label, **style)
            if line[f"difference_{region}"] is not None:
                middle, low = line[f"difference_{region}"], line[f"difference_{region}_low"]
                # Arithmetic can put the mean of equal values a hair outside of their interval.
                ends = (0, 0) if low is None else (middle - low, line[f"difference_{region}_high"] - middle)
                panels[1].errorbar(middle, at, xerr=[[max(0, ends[0])], [max(0, ends[1])]], **style)
    for y, line in enumerate(summary):
        used = [r for r in rows if r["kind"] == line["kind"] and (r["changed"] or line["kind"] == TRUE)]
        scores = [r["consistency"] for r in used if r["consistency"] is not None]
        # The same height for a case in each row would hide equal scores behind each other.
        heights = [y + 0.5 * ((i * 0.618) % 1 - 0.5) for i in range(len(scores))]
        panels[2].scatter(scores, heights, s=16, color=COLOURS["WT"], alpha=0.5, lw=0, zorder=3)
        if scores:
            panels[2].plot([line["consistency"]] * 2, [y - 0.36, y + 0.36], color=SOFT, lw=1.4)
    for panel in panels:
        for y in range(0, len(summary), 2):
            panel.axhspan(y - 0.5, y + 0.5, color="#f3f5f8", zorder=-1, lw=0)
    plain(panels[0], "Dice, mean ± sd over cases", "x")
    plain(panels[1], "difference to no report, 95 % interval", "x")
    plain(panels[2], "consistency score", "x")
    panels[0].set_xlim(max(panels[0].get_xlim()[0], -0.005), 1.005)
    for panel in panels:
        panel.xaxis.get_major_locator().set_params(nbins=6)
    panels[1].axvline(0, color=SOFT, lw=1)
    panels[2].set_xlim(-0.03, 1.03)
    panels[0].set_yticks(range(len(summary)), [f"{title(s['kind'])} (n={s['cases']})" for s in summary])
    panels[0].set_ylim(len(summary) - 0.45, -0.55)
    picture.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    save_figure(picture, stem)
