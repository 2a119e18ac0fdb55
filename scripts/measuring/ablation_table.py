"""The table of an ablation, as CSV, Markdown and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from brats_clip.evaluation import MEASURES, atomic_write
from brats_clip.evaluation.plots import COLOURS, SOFT, new_figure, plain, save_figure

from .bundle_run import epochs_done
from .command import read_json
from .page import render, spread

if TYPE_CHECKING:
    from .ablation import Run

FULL = "full"


def write_results(runs: Sequence[Run], failures: dict[str, str], command: str, output: Path) -> None:
    """Write the table as CSV and Markdown, and the picture; nothing while no run is finished."""
    if not any(run.finished for run in runs):
        return
    table = tabulate(runs)
    with atomic_write(output / "ablations.csv") as draft:
        table.to_csv(draft, index=False, float_format="%.6g")
    draw(table, output / "ablations")
    with atomic_write(output / "ablations.md") as draft:
        draft.write_text(markdown(table, runs, failures, command), encoding="utf-8")


def tabulate(runs: Sequence[Run]) -> pd.DataFrame:
    """A row per network and way of evaluating, from the runs that are finished.

    ``dice_R`` and ``dice_R_sd``, for R in WT, TC, ET and mean, are over seeds, of means over cases; ``difference_R``
    and ``difference_R_sd`` over the pairs of this network and the full one on the same case with the same seed.
    Standard deviations are those of samples: empty where there is one value.
    """
    rows = []
    finished = [run for run in runs if run.finished]
    for report in runs[0].reports:
        dice = {(run.variant, run.seed): run.dice(report) for run in finished}
        for variant in dict.fromkeys(run.variant for run in finished):
            mine = {seed: table for (name, seed), table in dice.items() if name == variant}
            seeds = pd.DataFrame([table.mean() for table in mine.values()])
            pairs = [t - dice[FULL, seed] for seed, t in mine.items() if variant != FULL and (FULL, seed) in dice]
            differences = pd.concat(pairs).dropna() if pairs else pd.DataFrame(columns=list(MEASURES), dtype=float)
            row = {"report": report, "network": variant}
            row["parameters"] = next(run.record()["parameters"] for run in finished if run.variant == variant)
            row |= {"seeds": len(mine), "cases": max(map(len, mine.values())), "pairs": len(differences)}
            for kind, found in (("dice", seeds), ("difference", differences)):
                row |= {k: v for c in MEASURES for k, v in spread(f"{kind}_{c}", found[c]).items()}
            rows.append(row)
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame, runs: Sequence[Run], failures: dict[str, str], command: str) -> str:
    """The table, and under it what its figures mean nothing without."""
    finished = [run for run in runs if run.finished]
    summaries = [run.metrics(report).with_name("summary.json") for run in finished for report in run.reports]
    found = [read_json(path)["run"] for path in summaries if path.is_file()]

    def distinct(key: str) -> str:
        return "; ".join(sorted({str(f[key]) for f in found if key in f})) or "unknown"

    codes = sorted({code for run in finished for code in run.record()["code"]})
    changed = " (**changed between runs: rows do not compare**)" if len(codes) > 1 else ""
    epochs = sorted({epochs_done(run.folder / "training") for run in finished})
    trained = f"{epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else epochs[0]
    missing = {run.name: failures.get(run.name, "not run yet") for run in runs if not run.finished}
    facts = {
        "Command": f"`{command}`",
        "Hardware": distinct("hardware"),
        "Cases": f"{table['cases'].max()} of the section testing",
        "Epochs": f"at most {runs[0].settings['epochs']}, trained {trained}; the best by validation is evaluated",
        "Seeds": ", ".join(map(str, dict.fromkeys(run.seed for run in runs))),
        "Date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "Versions": f"brats_clip {distinct('brats_clip')}, MONAI {distinct('monai')}, torch {distinct('torch')}; "
        f"code {', '.join(codes)}{changed}",
    }
    return render("ablation", rows=table.to_dict("records"), run=facts, missing=missing)


def draw(table: pd.DataFrame, stem: Path) -> None:
    """Dice with its spread over seeds, and the differences with theirs over pairs; a row per row of the table."""
    picture = new_figure(11, 1.2 + 0.6 * len(table))
    axes = picture.subplots(1, 2, sharey=True)
    rows = np.arange(len(table))
    titles = ("Dice (± over seeds)", "difference to full (± over cases and seeds)")
    for ax, kind, title in zip(axes, ("dice", "difference"), titles, strict=True):
        for place, (column, colour) in enumerate(COLOURS.items()):
            mean, sd = (
                table[f"{kind}_{column}{end}"].astype(float).fillna(0 if end else np.nan) for end in ("", "_sd")
            )
            ax.errorbar(mean, rows + 0.17 * (place - 1.5), xerr=sd, fmt="o", ms=4, color=colour, label=column)
        plain(ax, title, "x")
    reports = [f", report: {report}" if table["report"].nunique() > 1 else "" for report in table["report"]]
    axes[0].set_yticks(rows, [name + report for name, report in zip(table["network"], reports, strict=True)])
    axes[0].invert_yaxis()
    axes[1].axvline(0, color=SOFT, lw=1)
    axes[1].legend(fontsize=8)
    save_figure(picture, stem)
