"""Segment cases with each kind of report, and summarise the effect of each kind."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES, patient_of
from brats_clip.errors import InputError
from brats_clip.evaluation import MEASURES as REGIONS
from brats_clip.evaluation import case_metrics, write_metrics_csv
from brats_clip.evaluation.labelled import WRITTEN, draws, read_truth, report_of
from brats_clip.evaluation.plots import COLOURS, SOFT, new_figure, plain, save_figure
from brats_clip.evaluation.spread import auc
from brats_clip.evaluation.summary import statistics
from brats_clip.reports import PERTURBATIONS, read_findings

from .command import make_progress
from .shared import cell, chosen_cases, measure_cases, sequences_of, spread, write_page

NAME = "report_robustness"
NONE, TRUE = "none", "true"
TITLES = {
    NONE: "no report",
    TRUE: "true report",
    "partial": "half of its sentences",
    "generic": "true of any glioma",
    "another_patient": "another patient's",
    "flip_side": "side flipped",
    "negate_enhancement": "enhancement negated",
    "swap_region": "lobe exchanged",
    "scale_up": "size too large",
    "scale_down": "size too small",
}
# "ET_present" is ET over the cases that have any: a mean with the others, which score 1 or 0, mixes two questions.
MEASURES = ("WT", "TC", "ET", "mean", "ET_present")
KINDS = (NONE, TRUE, *(kind for kind in PERTURBATIONS if kind != NONE))


def has_report(case: dict) -> bool:
    """Return whether a case has its own report, without opening it."""
    return bool(case.get("report") or case.get("report_path"))


def measure_reports(args: argparse.Namespace, console: Console, command: str) -> dict[str, str]:
    """Measure case after case, and write the results; return the failed cases with their reasons."""
    found = chosen_cases(args)
    if args.written_reports:
        found = [{key: value for key, value in case.items() if key not in ("report", "report_path")} for case in found]
    found = [case for case in found if has_report(case) or not args.own_reports]
    if not found:
        raise InputError("cases", "none with a report", "some for --own_reports")
    cases, reports, failures = found[: args.limit], {}, {}
    with make_progress(console) as progress:
        # Cases beyond the limit only serve as other patients, and only with their own reports, which cost nothing.
        wanted = cases + [case for case in found[len(cases) :] if has_report(case)]
        for number, case in enumerate(progress.track(wanted, description="reports")):
            try:
                reports[case["case"]] = report_of(case, args.seed)
            except InputError as error:
                if number < len(cases):  # the others only provide their reports
                    failures[case["case"]] = str(error)

    def measure(segmenter: Segmenter, case: dict) -> list[dict]:
        name, truth = case["case"], read_truth(case, args.seed)
        others = [text for other, text in reports.items() if patient_of(other) != patient_of(name)]
        texts = texts_of(case, reports[name], others, args.kinds, args.seed)
        key = segmenter.set_case(**sequences_of(case, args.without), case=name)
        stated = read_findings(truth.report)["enhancement"]
        rows = []
        for kind, text in texts.items():
            answer = segmenter.segment(report=text)
            scores, agreed = case_metrics(answer.label, truth.label, answer.voxel_mm), answer.consistency
            row = {"case": name, "kind": kind, "changed": kind not in (NONE, TRUE) and text != truth.report}
            row |= {f"dice_{region}": scores[f"dice_{region}"] for region in REGIONS}
            row |= {f"volume_ml_ET{end}": scores[f"volume_ml_ET{end}"] for end in ("", "_truth")}
            warned = [check.finding for check in agreed.checks if check.warning] if agreed else []
            row |= {"consistency": agreed.score if agreed else None, "warnings": len(warned) if agreed else None}
            row |= {"used": answer.report_used if text else None, "warned_of": " ".join(warned)}
            row |= {"report": truth.source, "enhancement_stated": stated}
            rows.append(row | {"sequences_missing": " ".join(answer.sequences_missing)})
        segmenter.forget(key)
        return rows

    screen = {"screen_reports": False} if args.unscreened else {}
    rows, run = measure_cases(args, console, command, NAME, Segmenter, cases, measure, failures, **screen)
    if rows:
        summary = summarise(rows)
        write_metrics_csv(summary, args.output / f"{NAME}_summary.csv")
        draw(summary, rows, args.output / NAME)
        found = {"summary": summary, "title": title, "measures": MEASURES}
        found["sentences"] = summary_sentences(summary, rows)
        found["without_et"] = next(s["cases_without_ET"] for s in summary if s["kind"] == NONE)
        run = _facts(rows, summary, found["without_et"]) | run
        write_page(args.output / f"{NAME}.md", "robustness", run=run, failures=failures, **found)
        console.print("\n".join([*found["sentences"], f"Wrote {args.output / NAME}.md, .csv, .png and .svg."]))
    return failures


def texts_of(case: dict, report: str, others: Sequence[str], kinds: Sequence[str], seed: int) -> dict[str, str]:
    """Return the text of each kind of report for a case; ``others`` are reports of other patients.

    Raises:
        InputError: if another patient's report is requested and there is none.
    """
    texts = {NONE: "", TRUE: report}
    for kind in kinds:
        if kind not in texts:
            texts[kind] = PERTURBATIONS[kind](report, draws(seed, case["case"], kind), others)
    return {kind: texts[kind] for kind in kinds}


def summarise(rows: Sequence[dict]) -> list[dict]:
    """Return a row per kind of report, over the cases whose text it changes.

    The columns are ``dice_R`` and ``dice_R_sd`` for R in ``MEASURES``; ``difference_R`` from no report on the same
    case, with ``_sd`` and the 95 % bootstrap interval ``_low`` to ``_high``; ``false_ET_ml_sum`` and ``_mean`` over the
    ``cases_without_ET``; the mean ``consistency``, the share of ``pairs`` in which the true report scores higher
    (``told_apart``), and the ``auc``; the shares of reports that were ``used``, and of cases that were ``warned`` of.
    """
    table = pd.DataFrame(rows)
    by_kind = {kind: table[table["kind"] == kind].set_index("case") for kind in KINDS}
    summary = []
    for kind, found in by_kind.items():
        if found.empty:
            continue
        used = found if kind in (NONE, TRUE) else found[found["changed"]]
        line = {"kind": kind, "cases": len(used), "unchanged": len(found) - len(used)}
        for name in MEASURES:
            some = used[used["volume_ml_ET_truth"] > 0] if name == "ET_present" else used
            dice = some[f"dice_{name.removesuffix('_present')}"]
            before = by_kind[NONE][f"dice_{name.removesuffix('_present')}"]
            paired = [] if kind == NONE else (dice - before.reindex(dice.index)).dropna()
            line |= spread(f"dice_{name}", dice) | spread(f"difference_{name}", paired, interval=True)
        false = used.loc[used["volume_ml_ET_truth"] == 0, "volume_ml_ET"]
        line |= {"cases_with_ET": len(used) - len(false), "cases_without_ET": len(false)}
        line |= {"false_ET_ml_sum": false.sum() if len(false) else None, "false_ET_ml_mean": statistics(false)["mean"]}
        summary.append(line | _told_apart(by_kind[TRUE], used, kind))
    return summary


def _told_apart(true: pd.DataFrame, used: pd.DataFrame, kind: str) -> dict:
    """Summarise consistency scores and warnings of a kind, alone and compared with the true report."""
    if kind == NONE:
        return {}
    scores = used["consistency"].astype(float).dropna()
    warned = statistics(used["warnings"].astype(float).dropna() > 0)["mean"]
    line = {"consistency": statistics(scores)["mean"], "warned": warned}
    line["used"] = statistics(used["used"].astype(float))["mean"]
    if kind == TRUE:
        return line
    pairs = pd.DataFrame({"true": true["consistency"].astype(float).reindex(scores.index), "kind": scores}).dropna()
    line["told_apart"] = statistics(pairs["true"] > pairs["kind"])["mean"]
    return line | {"auc": auc(pairs["true"], pairs["kind"]), "pairs": len(pairs)}


def _facts(rows: Sequence[dict], summary: Sequence[dict], without_et: int) -> dict:
    cases = {r["case"]: r for r in rows}
    written = sum(r["report"] == WRITTEN for r in cases.values())
    missing = sorted({name for r in rows for name in r["sequences_missing"].split()}, key=SEQUENCES.index)
    unchanged = [f"{title(s['kind'])} ({s['unchanged']})" for s in summary if s["unchanged"]]
    return {
        "cases": f"{len(cases)}, {without_et} of them without ET",
        "reports": f"{len(cases) - written} of the cases' own, {written} written from the label (a case without one)",
        "sequences left away": ", ".join(missing) or "none",
        "cases whose report a kind does not change, left out of its row": ", ".join(unchanged) or "none",
    }


def draw(summary: Sequence[dict], rows: Sequence[dict], stem: Path) -> None:
    """Plot Dice with its spread, the difference from no report with its interval, and each case's consistency score."""
    picture = new_figure(13, 1.5 + 0.5 * len(summary))
    panels = picture.subplots(1, 3, sharey=True, width_ratios=(1, 1, 0.7))
    regions = MEASURES[:4]
    for place, (region, colour) in enumerate((m, COLOURS[m]) for m in regions):
        for y, line in enumerate(summary):
            at, style = y + 0.18 * (place - 1.5), {"color": colour, "fmt": "o", "ms": 4, "lw": 1.2}
            label = region if y == 0 else None
            if line[f"dice_{region}"] is not None:
                panels[0].errorbar(
                    line[f"dice_{region}"], at, xerr=line[f"dice_{region}_sd"] or 0, label=label, **style
                )
            if line[f"difference_{region}"] is not None:
                middle, low = line[f"difference_{region}"], line[f"difference_{region}_low"]
                # Rounding can put the mean of equal values slightly outside their interval.
                ends = (0, 0) if low is None else (middle - low, line[f"difference_{region}_high"] - middle)
                panels[1].errorbar(middle, at, xerr=[[max(0, ends[0])], [max(0, ends[1])]], **style)
    for y, line in enumerate(summary):
        used = [r for r in rows if r["kind"] == line["kind"] and (r["changed"] or line["kind"] == TRUE)]
        scores = [r["consistency"] for r in used if r["consistency"] is not None]
        # Points are spread vertically, so that equal scores do not hide each other.
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


def summary_sentences(summary: Sequence[dict], rows: Sequence[dict]) -> list[str]:
    """Summarise the results in sentences."""
    lines = {line["kind"]: line for line in summary}
    sentences = []
    if TRUE in lines:
        true = lines[TRUE]
        for name, what in (("mean", "mean Dice"), ("ET", "Dice of ET"), ("ET_present", "Dice of ET in cases with ET")):
            if true[f"difference_{name}"] is not None:
                sentences.append(f"True report against none, {what}: {cell(true, f'difference_{name}', '+')}.")
        if true["cases_without_ET"]:
            cases = {r["case"]: r for r in rows if r["kind"] == TRUE and r["volume_ml_ET_truth"] == 0}
            says_so = sum(r["enhancement_stated"] == "absent" for r in cases.values())
            none = lines[NONE]
            sentences.append(
                f"False ET, cases without ET (n={len(cases)}, of which {says_so} true reports say so): "
                f"{none['false_ET_ml_sum']:.2f} ml without a report ({none['false_ET_ml_mean']:.3f} ml per case), "
                f"{true['false_ET_ml_sum']:.2f} ml with the true one ({true['false_ET_ml_mean']:.3f} ml per case)."
            )
    wrong = [line for kind, line in lines.items() if kind not in (NONE, TRUE) and line["cases"]]
    if wrong:
        worst = min(wrong, key=lambda line: line["difference_mean"])
        sentences.append(
            f"Worst of the changed reports: {title(worst['kind'])}, mean Dice {cell(worst, 'difference_mean', '+')}."
        )
    if (flipped := lines.get("flip_side")) and flipped.get("pairs"):
        sentences.append(
            f"Consistency of the true report above that of the one with its side flipped: {flipped['told_apart']:.1%} "
            f"of {flipped['pairs']} cases; AUC {flipped['auc']:.3f}."
        )
    if TRUE in lines and lines[TRUE]["warned"] is not None:
        share, unused, number = lines[TRUE]["warned"], 1 - lines[TRUE]["used"], lines[TRUE]["cases"]
        sentences.append(f"True reports with a warning: {share:.1%} of {number}; not used: {unused:.1%}.")
    return sentences


def title(kind: str) -> str:
    """Return the display name of a kind of report."""
    return TITLES.get(kind, kind.replace("_", " "))
