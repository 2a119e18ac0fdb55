"""The result page of a simulation of active learning: summary, tables, figure and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from brats_clip.evaluation import MEASURES
from brats_clip.evaluation.plots import SOFT, new_figure, plain, save_figure

from .shared import cell, spread, write_page
from .strategies import ORDERS

NAME = "simulate_active_learning"
BASELINE = "random"
WANTED, WANTED_SHARE = "expected_gain", 0.7  # largest share of random's labels that the app's strategy should need
COLOURS = dict(zip(ORDERS, ("#5c6775", "#0072b2"), strict=True))


def write(path: Path, rows: Sequence[dict], summary: Sequence[dict], run: Mapping, failures: Mapping[str, str]) -> None:
    """Write the page: the tables, a summary in sentences, and the facts that are needed to interpret them."""
    table = pd.DataFrame(rows)
    labels = sorted(table["labels"].unique())
    curves = {
        strategy: [spread("dice", mine.loc[mine["labels"] == n, "dice_mean"]) for n in labels]
        for strategy, mine in table.groupby("strategy", sort=False)
    }
    heads = {"label_heads": [f"{n} labels" for n in labels], "final_heads": [f"final Dice {m}" for m in MEASURES]}
    found = {"curves": curves, "summary": summary, "sentences": summary_sentences(summary)}
    write_page(path, "active_learning", run=run, failures=failures, **heads, **found)


def draw(rows: Sequence[dict], summary: Sequence[dict], stem: Path) -> None:
    """Plot the curves, mean and standard deviation over repeats, and the share of labels that each strategy needed."""
    picture = new_figure(12, 4.6)
    left, right = picture.subplots(1, 2, width_ratios=(3, 2))
    table = pd.DataFrame(rows)
    strategies = list(table["strategy"].unique())
    for place, (strategy, mine) in enumerate(table.groupby("strategy", sort=False)):
        found = mine.groupby("labels")["dice_mean"].agg(["mean", "std"]).fillna(0)
        labels, mean, sd = found.index, found["mean"], found["std"]
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
    repeats = table["seed"].nunique()
    shown = "mean ± sd over repeats" if repeats > 1 else "no spread"
    picture.suptitle(f"{repeats} repeat{'s' * (repeats > 1)}: {shown}", fontsize=9)
    save_figure(picture, stem)


def labels_to_reach(curve: Mapping[int, float], target: float) -> float | None:
    """Return the number of labels at which a curve first reaches ``target``, interpolated linearly; None if never."""
    points = sorted(curve.items())
    for (labels, value), (less, below) in zip(points, [points[0], *points], strict=False):
        if value >= target:
            return float(labels) if below >= target else less + (labels - less) * (target - below) / (value - below)
    return None


def summarise(rows: Sequence[dict]) -> list[dict]:
    """Return a row per strategy.

    ``final_R`` is the final Dice, ``curve`` the mean Dice over all rounds except the shared start, ``gain`` its
    difference from that of random with the same seed. ``share`` is the number of labels needed to reach random's final
    mean Dice, as a share of random's final labels, over the seeds that reach it; ``never`` counts the others. ``_sd``
    are over seeds. Only finished seeds count; ``gain``, ``share`` and ``never`` also need random to have finished them.
    """
    table = pd.DataFrame(rows)
    most = table["labels"].max()
    curves = {}  # by strategy and seed: the rounds of finished ones, by number of labels
    for key, curve in table.groupby(["strategy", "seed"], sort=False):
        if curve["labels"].max() == most:
            curves[key] = curve.set_index("labels").sort_index()
    over = {
        key: (curve["dice_mean"].iloc[1:] if len(curve) > 1 else curve["dice_mean"]).mean()
        for key, curve in curves.items()
    }
    lines = []
    for strategy in table["strategy"].unique():
        mine = {seed: curve for (name, seed), curve in curves.items() if name == strategy}
        if not mine:
            continue
        line: dict = {"strategy": strategy, "seeds": len(mine)}
        for m in MEASURES:
            line |= spread(f"final_{m}", (curve.loc[most, f"dice_{m}"] for curve in mine.values()))
        paired = [seed for seed in mine if (BASELINE, seed) in curves]
        targets = {seed: curves[BASELINE, seed].loc[most, "dice_mean"] for seed in paired}
        needed = [labels_to_reach(mine[seed]["dice_mean"].to_dict(), target) for seed, target in targets.items()]
        line |= spread("curve", (over[strategy, seed] for seed in mine))
        line |= spread("gain", (over[strategy, seed] - over[BASELINE, seed] for seed in paired))
        line |= spread("share", (None if n is None else n / most for n in needed))
        lines.append(line | {"never": needed.count(None)})
    return lines


def summary_sentences(summary: Sequence[dict]) -> list[str]:
    """Summarise the results in sentences."""
    by_name = {line["strategy"]: line for line in summary}
    # Compare by the gain over random if there is one: strategies may have finished different repeats.
    best = max(summary, key=lambda line: line["curve"] if line["gain"] is None else line["gain"])
    sentences = [f"Highest mean Dice over the rounds: {best['strategy']}, {cell(best, 'curve')}."]
    for name, line in by_name.items():
        if name != BASELINE and line["gain"] is not None:
            sd = line["gain_sd"]
            sure = "" if sd is None else " (more than one sd)" if abs(line["gain"]) > sd else " (within one sd)"
            sentences.append(f"{name} against random: mean Dice over the rounds {cell(line, 'gain', '+')}{sure}.")
    wanted = by_name.get(WANTED)
    if wanted is not None and BASELINE in by_name:
        got = wanted["share"]
        if got is None:
            sentences.append(
                f"{WANTED} never reaches random's final Dice; expected with {WANTED_SHARE:.0%} of its labels."
            )
        else:
            held = got <= WANTED_SHARE and not wanted["never"]
            sentences.append(
                f"{WANTED} reaches random's final Dice with {got:.0%} of its labels in "
                f"{wanted['seeds'] - wanted['never']} of {wanted['seeds']} repeats; expected was {WANTED_SHARE:.0%} at "
                f"most: {'held' if held else 'not held'}."
            )
    return sentences
