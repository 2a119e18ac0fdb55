"""Dice against labelled cases over repeats, and how many labels a strategy needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from brats_clip.evaluation.summary import statistics
from brats_clip.evaluation.tables import figure

from .active_learning_rounds import BASELINE, Round, Setting
from .region_dice import MEASURES

WANTED_SHARE = 0.7  # of random's labels: what the combined strategy was expected to need


def collect(setting: Setting, seeds: Sequence[int], strategies: Sequence[str], rounds: int) -> list[dict]:
    """A row per seed, strategy and round that is finished: number of ``labels``, ``dice_R`` as means over the test
    cases, ``chosen`` cases and ``seconds``. The shared start is in the rows of every strategy."""
    rows = []
    for seed in seeds:
        for strategy in strategies:
            for number in range(rounds + 1):
                record = Round(setting, seed, strategy, number).record()
                if record is None:
                    break
                means = {f"dice_{m}": float(np.mean([d[m] for d in record["dice"].values()])) for m in MEASURES}
                row = {"seed": seed, "strategy": strategy, "labels": len(record["labelled"]), **means}
                row |= {"seconds": sum(record["seconds"].values()), "chosen": " ".join(record["chosen"])}
                rows.append(row)
    return rows


def labels_to_reach(curve: Mapping[int, float], target: float) -> float | None:
    """How many labels a curve needs to reach ``target`` for the first time, on straight lines between its points; None
    if it never does."""
    points = sorted(curve.items())
    for (labels, value), (less, below) in zip(points, [points[0], *points], strict=False):
        if value >= target:
            return float(labels) if below >= target else less + (labels - less) * (target - below) / (value - below)
    return None


def summarise(rows: Sequence[dict]) -> list[dict]:
    """A row per strategy.

    ``final_R`` is the Dice at the end, ``curve`` the mean Dice over all rounds but the shared start, ``gain`` its
    difference to that of random with the same seed. ``share``: labels needed to reach random's final mean Dice, as a
    share of the labels random had then, over the seeds that get there; ``never`` counts the others, of ``seeds``.
    ``_sd`` are over seeds. Only seeds that are finished by a strategy and by random count.
    """
    curves: dict[tuple[str, int], dict[int, dict]] = {}
    for row in rows:
        curves.setdefault((row["strategy"], row["seed"]), {})[row["labels"]] = row
    most = max(row["labels"] for row in rows)
    curves = {key: curve for key, curve in curves.items() if max(curve) == most}
    lines = []
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        mine = {seed: curve for (name, seed), curve in curves.items() if name == strategy}
        if not mine:
            continue
        line: dict = {"strategy": strategy, "seeds": len(mine)}
        for m in MEASURES:
            end = statistics(curve[most][f"dice_{m}"] for curve in mine.values())
            line |= {f"final_{m}": end["mean"], f"final_{m}_sd": end["std"]}
        over = {seed: _over_rounds(curve) for seed, curve in mine.items()}
        paired = [seed for seed in mine if (BASELINE, seed) in curves]
        gains = statistics(over[seed] - _over_rounds(curves[BASELINE, seed]) for seed in paired)
        shares = []
        for seed in paired:
            target = curves[BASELINE, seed][most]["dice_mean"]
            needed = labels_to_reach({n: row["dice_mean"] for n, row in mine[seed].items()}, target)
            shares.append(None if needed is None else needed / most)
        share, curve = statistics(shares), statistics(over.values())
        line |= {"curve": curve["mean"], "curve_sd": curve["std"], "gain": gains["mean"], "gain_sd": gains["std"]}
        line |= {"share": share["mean"], "share_sd": share["std"], "never": len(shares) - share["n"]}
        lines.append(line)
    return lines


def _over_rounds(curve: Mapping[int, dict]) -> float:
    return float(np.mean([curve[labels]["dice_mean"] for labels in sorted(curve)[1:] or curve]))


def in_short(summary: Sequence[dict]) -> list[str]:
    """What the figures come to, in sentences."""
    by_name = {line["strategy"]: line for line in summary}
    # Repeat for repeat where there is random to compare with: not all strategies may have finished the same ones.
    best = max(summary, key=lambda line: line["curve"] if line["gain"] is None else line["gain"])
    said = [f"Highest mean Dice over the rounds: {best['strategy']}, {figure(best['curve'], best['curve_sd'])}."]
    for name, line in by_name.items():
        if name != BASELINE and line["gain"] is not None:
            spread = line["gain_sd"]
            sure = "" if spread is None else " (more than one sd)" if abs(line["gain"]) > spread else " (within one sd)"
            said.append(f"{name} against random: mean Dice over the rounds {figure(line['gain'], spread, '+')}{sure}.")
    wanted = by_name.get("combined")
    if wanted is not None and BASELINE in by_name:
        got = wanted["share"]
        if got is None:
            said.append(f"combined never reaches random's final Dice; expected with {WANTED_SHARE:.0%} of its labels.")
        else:
            held = got <= WANTED_SHARE and not wanted["never"]
            said.append(
                f"combined reaches random's final Dice with {got:.0%} of its labels in "
                f"{wanted['seeds'] - wanted['never']} of {wanted['seeds']} repeats; expected was {WANTED_SHARE:.0%} at "
                f"most: {'held' if held else 'not held'}."
            )
    return said
