"""The table of a cross-validation, as Markdown, CSV and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from brats_clip.evaluation import atomic_write, summarise, write_summary
from brats_clip.labels import REGIONS

from .page import write_page

if TYPE_CHECKING:
    from .cross_validation import Fold

ET_ML = 1.0  # below that, a Dice says more about noise than about the network
SCORES = (("dice", 3), ("hd95", 1), ("lesionwise_dice", 3))  # with their digits


def headline(scores: pd.DataFrame) -> dict[str, float | int | None]:
    """The figures of the model card.

    ``dice_R`` are means over all cases by the BraTS rule for empty regions; ``dice_ET_1ml`` is over the
    ``cases_ET_1ml`` with more than 1 ml of ET, and ``dice_mean_1ml`` the mean of WT, TC and that. ``false_ET_ml`` is
    the sum over the ``cases_without_ET``.
    """
    some = scores[scores["volume_ml_ET_truth"] > ET_ML]
    none = scores[scores["volume_ml_ET_truth"] == 0]
    found = {f"{column}_{r}": scores[f"{column}_{r}"].mean() for column, _ in SCORES for r in (*REGIONS, "mean")}
    found["dice_ET_1ml"] = some["dice_ET"].mean()
    found["dice_mean_1ml"] = (found["dice_WT"] + found["dice_TC"] + found["dice_ET_1ml"]) / 3
    found |= {"false_ET_ml": none["volume_ml_ET"].sum(), "cases": len(scores), "cases_ET_1ml": len(some)}
    return found | {"cases_without_ET": len(none)}


def write_table(scores: pd.DataFrame, folds: Sequence[Fold], run: Mapping, output: Path) -> list[str]:
    """Write metrics.csv, summary.json and table.md; returns what the figures come to, in sentences.

    Nothing is written while no fold is scored.
    """
    waiting = [fold.name for fold in folds if not fold.finished]
    if scores.empty:
        return [f"No fold is scored yet; waiting: {', '.join(waiting)}."]
    scores = scores.sort_values("case")
    with atomic_write(output / "metrics.csv") as draft:
        scores.to_csv(draft, index=False, float_format="%.6g")
    figures = headline(scores)
    rows = scores.drop(columns="fold").to_dict("records")
    write_summary(summarise(rows), output / "summary.json", {**run, "headline": figures, "waiting": waiting})
    sentences = in_short(figures)
    if waiting:
        sentences.append(f"Not finished, and not in the table: fold {', '.join(waiting)}.")
    some = scores[scores["volume_ml_ET_truth"] > ET_ML]
    regions = [*((r, scores, r) for r in REGIONS), (f"ET, cases with > {ET_ML:g} ml", some, "ET")]
    regions.append(("mean of WT, TC, ET", scores, "mean"))
    context = {"regions": regions, "folds": list(scores.groupby("fold")), "cases": scores.to_dict("records")}
    write_page(output / "table.md", "cross_validation", sentences=sentences, run=run, scores=SCORES, **context)
    return [*sentences, f"Table: {output / 'table.md'}"]


def in_short(figures: Mapping) -> list[str]:
    """What the figures come to, in sentences."""
    dice = ", ".join(f"{r} {figures[f'dice_{r}']:.3f}" for r in (*REGIONS, "mean"))
    lesions = ", ".join(f"{r} {figures[f'lesionwise_dice_{r}']:.3f}" for r in REGIONS)
    return [
        f"Dice over {figures['cases']} cases: {dice}.",
        f"ET over the {figures['cases_ET_1ml']} cases with more than {ET_ML:g} ml: {figures['dice_ET_1ml']:.3f}; "
        f"mean with it {figures['dice_mean_1ml']:.3f}.",
        f"Lesion-wise Dice: {lesions}.",
        f"False ET in {figures['cases_without_ET']} cases without any: {figures['false_ET_ml']:.2f} ml in all.",
    ]
