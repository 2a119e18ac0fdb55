"""Compare predicted with true quality, with held-out coefficients, and measure the gain of following suggestions."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import cc3d
import numpy as np
import pandas as pd
from rich.console import Console
from scipy.stats import spearmanr

from brats_clip import Segmenter, bundle_root
from brats_clip.evaluation import region_dice, write_metrics_csv
from brats_clip.evaluation.labelled import draws, labelled_cases, read_truth
from brats_clip.evaluation.plots import COLOURS, RULE, SOFT, new_figure, plain, save_figure
from brats_clip.evaluation.run_info import refuse_training_cases, sha256_of
from brats_clip.evaluation.tables import figure, markdown_facts, markdown_table
from brats_clip.images import atomic_write
from brats_clip.labels import REGIONS
from brats_clip.quality import QualityModel
from brats_clip.quality.features import FEATURES

from .annotation import SMALLEST_MM3, make_robot
from .command import write_json
from .quality_data import WAYS, Record, read_records, with_groups
from .quality_fit import calibration_error, fit, held_out, predict
from .shared import chosen_cases, measure_cases, sequences_of

NAME = "fit_quality"
GROUPS = tuple(f"fold{number}" for number in range(4))
CLICKS = 3
CORRECTED = 0.3  # share of an archive that is corrected
KINDS = {True: "scans", False: "phantoms"}


def fit_quality(args: argparse.Namespace, console: Console, command: str) -> dict[str, str]:
    """Segment all cases, fit, and write the coefficients and their evaluation; return the failed cases with reasons."""
    cases, failures, records, least = _cases(args), {}, [], []

    def collect(segmenter: Segmenter, case: dict) -> list[dict]:
        ways = WAYS if args.report == "both" else (args.report,)
        found = read_records(segmenter, case, args.output / "answers", args.seed, ways)
        records.extend(found)
        least[:] = segmenter._quality.least_ml
        return [{"case": r.case, "way": r.way, **dict(zip(REGIONS, r.dice.tolist(), strict=True))} for r in found]

    _, run = measure_cases(args, console, command, "answers", Segmenter, cases, collect, failures)
    if not records:
        return failures
    console.print(f"{len(records)} answers to {len({r.case for r in records})} cases; fitting.")
    pairs = held_out(records, least)
    rows = [compare(record, model) for record, model in pairs]
    write_metrics_csv(rows, args.output / f"{NAME}.csv")
    draw_order(rows, args.output / f"{NAME}_order", args.seed)
    measured = {name: summarise([row for row in rows if row["kind"] == name]) for name in KINDS.values()}
    measured = {name: found for name, found in measured.items() if found}
    # This file is shipped: absolute paths of this machine do not belong in it.
    said = " ".join(Path(word).name if Path(word).is_absolute() else word for word in command.split(" "))
    about = {"made_by": said, "date": time.strftime("%Y-%m-%d"), "license": "Apache-2.0, as the bundle"}
    about["fitted_on"] = "; ".join(
        f"{found['cases']} {name}{' (cross-validated)' * (args.cross_validation is not None and name == 'scans')}"
        for name, found in measured.items()
    )
    sha = sha256_of(args.checkpoint or bundle_root() / "models" / "model.pt")
    model = fit(records, least)
    model = dataclasses.replace(model, weights_sha256=sha, about=about | {"held_out": measured})
    write_json(args.write or args.output / "quality.json", model.to_json())
    clicks = []
    if args.clicks:
        models = {record.case: model for record, model in pairs}
        chosen = [case for case in cases if case["case"] in models and (case["real"] or args.clicks == "all")]

        def click(segmenter: Segmenter, case: dict) -> list[dict]:
            return gain_from_suggestions(segmenter, case, models[case["case"]], args.seed)

        clicks, _ = measure_cases(args, console, command, f"{NAME}_clicks", Segmenter, chosen, click, failures)
    lines = [f"# Predicted quality: {NAME}", "", *markdown_facts(run | {"fitted on": about["fitted_on"]}), ""]
    lines += [*table_of(measured), "", *table_of_clicks(clicks), *coefficients(model)]
    with atomic_write(args.output / f"{NAME}.md") as draft:
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    console.print("\n".join(lines))
    return failures


def _cases(args: argparse.Namespace) -> list[dict]:
    """Return scans and phantoms, each with its group; scans of a cross-validation with the weights of their fold."""
    found, last = [], str(args.checkpoint or bundle_root() / "models" / "model.pt")
    if args.cross_validation is not None:
        of = argparse.Namespace(cross_validation=args.cross_validation, cases=None, datalist=None)
        scans = chosen_cases(of)[: args.limit]
        folds = sorted({case["checkpoint"] for case in scans})
        found += [{**case, "real": True, "group": GROUPS[folds.index(case["checkpoint"]) % 4]} for case in scans]
    for folders, real in ((args.cases, True), (args.phantoms, False)):
        cases = [{**case, "checkpoint": last} for folder in folders for case in labelled_cases(folder)]
        refuse_training_cases(last, [case["case"] for case in cases])
        found += with_groups(cases[: args.limit], GROUPS, real)
    return found


def compare(record: Record, model: QualityModel) -> dict:
    """Return a row: expected and true quality of an answer, and whether its suggested places contain errors."""
    found = predict(record, model)
    row = {"case": record.case, "kind": KINDS[record.real], "way": record.way, "group": record.group}
    for i, (name, estimate) in enumerate(found.regions.items()):
        truth, volume = float(record.dice[i]), float(record.volume_ml[i])
        row |= {f"dice_{name}": truth, f"expected_{name}": estimate.dice}
        row[f"inside_{name}"] = estimate.dice_low <= truth <= estimate.dice_high
        row |= {f"ml_{name}": volume, f"expected_ml_{name}": estimate.volume_ml}
        row[f"ml_inside_{name}"] = estimate.volume_low_ml <= volume <= estimate.volume_high_ml
    row |= {"dice_mean": float(record.dice.mean()), "expected_mean": float(np.mean([*found.expected_dice.values()]))}
    row |= calibration_error(record, model)
    hits = [overlaps(record, place) for place in found.look_here]
    row |= {"places": len(hits), "first_hit": hits[0][0] if hits else None, "hits": sum(hit for hit, _ in hits)}
    row |= {"first_wrong": hits[0][1] if hits else None, "first": found.look_here[0]["kind"] if hits else None}
    return row


def overlaps(record: Record, place: dict) -> tuple[bool, float]:
    """Return whether an error of the place's region lies in its inner half, and the share of wrong voxels there.

    An error is a connected component of at least ``SMALLEST_MM3``; the inner half is the ball of half the radius.
    """
    mm = record.geometry.native_affine @ [*place["voxel"], 1.0]
    centre = np.linalg.solve(record.geometry.affine, mm)[:3] - record.corner
    spacing = np.linalg.norm(record.geometry.affine[:3, :3], axis=0)
    values = REGIONS[place["region"]]
    wrong = np.isin(record.label, values) != np.isin(record.truth, values)
    smallest = max(1, round(SMALLEST_MM3 / float(np.prod(spacing))))
    wrong = cc3d.dust(wrong, threshold=smallest, connectivity=6).astype(bool)
    grid = np.ogrid[tuple(slice(0, n) for n in wrong.shape)]
    away = sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, spacing, strict=True))
    ball = away <= (place["radius_mm"] / 2) ** 2
    share = float(wrong[ball].mean()) if ball.any() else 0.0
    return bool((wrong & ball).any()), share


def summarise(rows: Sequence[dict]) -> dict:
    """Summarise the rows of scans, or of phantoms."""
    if not rows:
        return {}
    table = pd.DataFrame(rows)
    found = {"cases": int(table["case"].nunique()), "answers": len(table)}
    for measure in (*REGIONS, "mean"):
        truth, expected = table[f"dice_{measure}"], table[f"expected_{measure}"]
        found[f"spearman_{measure}"] = round(float(spearmanr(truth, expected).statistic), 3)
        found[f"mae_{measure}"] = round(float((truth - expected).abs().mean()), 3)
    for name in REGIONS:
        error = (table[f"ml_{name}"] - table[f"expected_ml_{name}"]).abs()
        found |= {f"inside_{name}": round(float(table[f"inside_{name}"].mean()), 2)}
        found |= {f"ml_inside_{name}": round(float(table[f"ml_inside_{name}"].mean()), 2)}
        found |= {f"ml_mae_{name}": round(float(error.mean()), 2)}
        found |= {key: round(float(table[key].mean()), 4) for key in (f"ece_{name}", f"ece_doubt_{name}")}
    each = table[table["way"] == table["way"].iloc[0]]  # one answer per case
    found["queue_gain"] = gain_of_order(each["expected_mean"], each["dice_mean"])
    found["best_queue_gain"] = gain_of_order(each["dice_mean"], each["dice_mean"])
    looked = table[table["places"] > 0]
    found |= {"without_place": int((table["places"] == 0).sum())}
    found["first_hit"] = round(float(looked["first_hit"].astype(float).mean()), 3) if len(looked) else None
    found["first_wrong"] = round(float(looked["first_wrong"].astype(float).mean()), 3) if len(looked) else None
    found["all_hit"] = round(float(looked["hits"].sum() / looked["places"].sum()), 3) if len(looked) else None
    return found


def gain_of_order(expected: pd.Series, dice: pd.Series) -> float | None:
    """Return the Dice gain of correcting the ``CORRECTED`` share expected to be worst, relative to a random share.

    A corrected case has a Dice of 1, so that a random share of cases gains that share of the missing Dice.
    """
    first = expected.argsort(kind="stable").iloc[: max(1, round(CORRECTED * len(expected)))]
    missing = 1 - dice
    return round(float(missing.iloc[first].mean() / missing.mean()), 2) if missing.any() else None


def draw_order(rows: Sequence[dict], stem: Path, seed: int) -> None:
    """Plot the mean Dice of an archive against the share of corrected cases, for several orders of correction."""
    kinds = {name: [row for row in rows if row["kind"] == name] for name in KINDS.values()}
    kinds = {name: pd.DataFrame(mine).drop_duplicates("case") for name, mine in kinds.items() if mine}
    picture, random = new_figure(5.5 * len(kinds), 4.2), np.random.default_rng(seed)
    for axes, (name, table) in zip(picture.subplots(1, len(kinds), squeeze=False)[0], kinds.items(), strict=True):
        dice, share = table["dice_mean"].to_numpy(), np.arange(len(table) + 1) / len(table)

        def curve(order: np.ndarray, dice: np.ndarray = dice) -> np.ndarray:
            return dice.mean() + np.concatenate([[0], np.cumsum(1 - dice[order])]) / len(dice)

        drawn = np.stack([curve(random.permutation(len(dice))) for _ in range(200)])
        middle, sd = drawn.mean(axis=0), drawn.std(axis=0)
        axes.fill_between(share, middle - sd, middle + sd, color=SOFT, alpha=0.15, lw=0)
        axes.plot(share, middle, color=SOFT, ls="--", label="random order, mean ± sd")
        axes.plot(share, curve(dice.argsort()), color=SOFT, lw=1, label="true Dice, worst first")
        axes.plot(share, curve(table["expected_mean"].argsort().to_numpy()), color=COLOURS["WT"], lw=2, label="queue")
        axes.axvline(CORRECTED, color=RULE, zorder=0)
        plain(axes, f"{len(table)} {name}: mean Dice of the archive", "both")
        axes.set_xlabel("share of cases corrected", fontsize=9)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    save_figure(picture, stem)


def gain_from_suggestions(segmenter: Segmenter, case: dict, model: QualityModel, seed: int) -> list[dict]:
    """Return Dice after ``CLICKS`` clicks of a robot that sees all errors, and of one that sees only suggested places.

    Both click as imprecisely as a person does. The second robot looks at one place after the other and clicks the worst
    error within its radius; if there is none, it makes no click there.
    """
    truth = read_truth(case, seed)
    segmenter._quality, own = model, segmenter._quality
    key = segmenter.set_case(**sequences_of(case), case=case["case"])
    first = segmenter.segment()
    row = {"case": case["case"], "kind": KINDS[case["real"]], "first": _mean(first.label, truth.label)}
    luck = int(draws(seed, case["case"], "robot").integers(2**31))
    for name, places in (("knows", None), ("looks", first.look_here)):
        robot, answer, made = make_robot(truth.voxel_mm, False, luck), first, []
        for number in range(CLICKS):
            seen = truth.label if places is None else _within(answer, truth.label, places[number : number + 1])
            click = robot.click(answer.label, seen)
            if click is not None:
                made.append((click.kind, click.voxel))
                answer = segmenter.segment(clicks=made)
        row |= {name: _mean(answer.label, truth.label), f"{name}_clicks": len(made)}
    segmenter.forget(key)
    segmenter._quality = own
    return [row]


def _mean(label: np.ndarray, truth: np.ndarray) -> float:
    return region_dice(label, truth)["dice_mean"]


def _within(answer, truth: np.ndarray, places: Sequence[dict]) -> np.ndarray:
    """Return the truth inside ``places``, and the answer elsewhere."""
    seen = answer.label.copy()
    for place in places:
        grid = np.ogrid[tuple(slice(0, n) for n in truth.shape)]
        parts = zip(grid, place["voxel"], answer.voxel_mm, strict=True)
        ball = sum(((g - v) * size) ** 2 for g, v, size in parts) <= place["radius_mm"] ** 2
        seen[ball] = truth[ball]
    return seen


def table_of(measured: dict) -> list[str]:
    """Return the results as a Markdown table, with a column for scans and one for phantoms."""
    names = list(dict.fromkeys(name for found in measured.values() for name in found))
    rows = [[name.replace("_", " "), *(found.get(name) for found in measured.values())] for name in names]
    return markdown_table(["figure", *measured], rows)


def table_of_clicks(rows: Sequence[dict]) -> list[str]:
    """Return the gain of ``CLICKS`` clicks, in sentences."""
    lines = []
    for name in KINDS.values():
        if table := [row for row in rows if row["kind"] == name]:
            frame = pd.DataFrame(table)
            knows, looks = ((frame[way] - frame["first"]).mean() for way in ("knows", "looks"))
            share, made = looks / knows if knows else float("nan"), frame["looks_clicks"].mean()
            lines.append(
                f"{name}, {len(frame)} cases: {CLICKS} clicks of a robot that knows the truth gain {figure(knows)} of "
                f"mean Dice; of one that sees {CLICKS} places, {figure(looks)} ({share:.0%}), with {made:.1f} clicks."
            )
    return [*lines, ""] if lines else []


def coefficients(model: QualityModel) -> list[str]:
    """Return the coefficients of the expected Dice as a Markdown table."""
    rows = [[r, *(f"{c:+.2f}" for c in row)] for r, row in zip(REGIONS, model.dice, strict=True)]
    return markdown_table(["region", "intercept", *FEATURES], rows)
