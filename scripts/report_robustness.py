#!/usr/bin/env python
"""Measure what a report does to a segmentation: a true one, part of one, a wrong one, or none.

    python scripts/report_robustness.py --dataset_dir /data/BraTS2021 --datalist datalist.json --output runs/robustness
    python scripts/report_robustness.py --cases data/phantoms --limit 20 --without t1ce --output runs/no_t1ce

Each labelled case is segmented without a report, with its own, and with its own changed in every way of
brats_clip.reports.PERTURBATIONS. A case that has no report gets one that is written from its label. A report that
puts the tumour where the image does not show it is not used by the segmenter; --unscreened lets the network hear it all
the same. Leaves report_robustness.csv (a row per case and kind of report), report_robustness_summary.csv, and
report_robustness.md, .png and .svg in the output folder.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES, patient_of
from brats_clip.errors import BratsClipError, InputError
from brats_clip.evaluation import atomic_write, case_metrics, collect_run_info, write_metrics_csv
from brats_clip.evaluation.labelled import WRITTEN, Truth, draws, labelled_cases, read_truth, report_of
from brats_clip.evaluation.plots import COLOURS, SOFT, new_figure, plain, save_figure
from brats_clip.evaluation.spread import auc, bootstrap_interval
from brats_clip.evaluation.summary import statistics
from brats_clip.evaluation.tables import figure, markdown_facts, markdown_table
from brats_clip.reports import PERTURBATIONS, read_findings

NAME = "report_robustness"
NONE, TRUE = "none", "true"
KINDS = (NONE, TRUE, *(kind for kind in PERTURBATIONS if kind != NONE))
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
# "ET_present" is the ET of the cases that have any: a mean with the others, which score 1 or 0, mixes two questions.
MEASURES = ("WT", "TC", "ET", "mean", "ET_present")


# Measuring


def texts_of(case: dict, report: str, others: Sequence[str], kinds: Sequence[str], seed: int) -> dict[str, str]:
    """The text of each kind of report for a case; ``others`` are reports of other patients.

    Raises:
        InputError: if another patient's report is wanted and there is none.
    """
    texts = {NONE: "", TRUE: report}
    for kind in kinds:
        if kind not in texts:
            texts[kind] = PERTURBATIONS[kind](report, draws(seed, case["case"], kind), others)
    return {kind: texts[kind] for kind in kinds}


def measure(segmenter: Segmenter, case: dict, truth: Truth, texts: dict[str, str], without: Sequence[str]) -> list:
    """Segment a case with each text; a row for each.

    ``changed`` says whether the text is another than the true report's, and ``used`` whether the segmenter listened to
    it. ``consistency`` (0 to 1) and the warnings are
    about the text and the image, so that a report that is wrong should have a low score.
    """
    segmenter_case = segmenter.set_case(**sequences_of(case, without), case=case["case"])
    says = read_findings(truth.report)["enhancement"]
    rows = []
    for kind, text in texts.items():
        answer = segmenter.segment(report=text)
        scores = case_metrics(answer.label, truth.label, answer.voxel_mm)
        row = {"case": case["case"], "kind": kind, "changed": kind not in (NONE, TRUE) and text != truth.report}
        row |= {f"dice_{region}": scores[f"dice_{region}"] for region in ("WT", "TC", "ET", "mean")}
        row |= {f"volume_ml_ET{end}": scores[f"volume_ml_ET{end}"] for end in ("", "_truth")}
        agreed = answer.consistency
        warned = [check.finding for check in agreed.checks if check.warning] if agreed else []
        row |= {"consistency": agreed.score if agreed else None, "warnings": len(warned) if agreed else None}
        row |= {
            "used": answer.report_used if text else None,
            "warned_of": " ".join(warned),
            "report": truth.source,
            "enhancement_stated": says,
        }
        rows.append(row | {"sequences_missing": " ".join(answer.sequences_missing)})
    segmenter.forget(segmenter_case)
    return rows


def sequences_of(case: dict, without: Sequence[str]) -> dict:
    """The files of a case by sequence, but for those ``without``."""
    return {sequence: case[sequence] for sequence in SEQUENCES if sequence not in without}


# Summing up


def summarise(rows: Sequence[dict]) -> list[dict]:
    """A row per kind of report, over the cases whose text it changes.

    ``dice_R`` and ``dice_R_sd`` for R of ``MEASURES``; ``difference_R`` to no report on the same case, with
    ``_sd`` and the 95 % bootstrap interval ``_low`` to ``_high``; ``false_ET_ml_sum`` and ``_mean`` over the
    ``cases_without_ET``; the mean ``consistency``, how often that of the true report is higher (``told_apart``, over
    ``pairs``) and the ``auc``, and the shares that were ``used`` and ``warned`` of.
    """
    by_kind = {kind: {r["case"]: r for r in rows if r["kind"] == kind} for kind in KINDS}
    summary = []
    for kind, found in by_kind.items():
        used = {c: r for c, r in found.items() if r["changed"] or kind in (NONE, TRUE)}
        if not found:
            continue
        line = {"kind": kind, "cases": len(used), "unchanged": 0 if kind in (NONE, TRUE) else len(found) - len(used)}
        for name in MEASURES:
            column = f"dice_{name.removesuffix('_present')}"
            cases = [c for c, r in used.items() if name != "ET_present" or r["volume_ml_ET_truth"] > 0]
            dice = statistics(used[c][column] for c in cases)
            line |= {f"dice_{name}": dice["mean"], f"dice_{name}_sd": dice["std"]}
            paired = [used[c][column] - by_kind[NONE][c][column] for c in cases if kind != NONE and c in by_kind[NONE]]
            moved = statistics(paired)
            low, high = bootstrap_interval(paired)
            line |= {f"difference_{name}": moved["mean"], f"difference_{name}_sd": moved["std"]}
            line |= {f"difference_{name}_low": low, f"difference_{name}_high": high}
        false = [r["volume_ml_ET"] for r in used.values() if r["volume_ml_ET_truth"] == 0]
        line |= {"cases_with_ET": len(used) - len(false), "cases_without_ET": len(false)}
        line |= {"false_ET_ml_sum": sum(false) if false else None, "false_ET_ml_mean": statistics(false)["mean"]}
        line |= _told_apart(by_kind[TRUE], used, kind)
        summary.append(line)
    return summary


def _told_apart(true: dict[str, dict], used: dict[str, dict], kind: str) -> dict:
    """What consistency scores and warnings say of a kind, in itself and beside the true report."""
    if kind == NONE:
        return {}
    scores = {c: r["consistency"] for c, r in used.items() if r["consistency"] is not None}
    warned = statistics(float(r["warnings"] > 0) for r in used.values() if r["warnings"] is not None)
    used_share = statistics(float(r["used"]) for r in used.values())["mean"]
    line = {"consistency": statistics(scores.values())["mean"], "warned": warned["mean"], "used": used_share}
    if kind == TRUE:
        return line
    pairs = [(true[c]["consistency"], s) for c, s in scores.items() if c in true]
    pairs = [(of_true, of_kind) for of_true, of_kind in pairs if of_true is not None]
    told = statistics(float(of_true > of_kind) for of_true, of_kind in pairs)
    return line | {
        "told_apart": told["mean"],
        "auc": auc(*zip(*pairs, strict=True)) if pairs else None,
        "pairs": len(pairs),
    }


def in_short(summary: Sequence[dict], rows: Sequence[dict]) -> list[str]:
    """What the figures come to, in sentences."""
    lines = {line["kind"]: line for line in summary}
    said = []
    if TRUE in lines:
        true = lines[TRUE]
        for name, what in (("mean", "mean Dice"), ("ET", "Dice of ET"), ("ET_present", "Dice of ET in cases with ET")):
            if true[f"difference_{name}"] is not None:
                said.append(f"True report against none, {what}: {_difference(true, name)}.")
        if true["cases_without_ET"]:
            cases = {r["case"]: r for r in rows if r["kind"] == TRUE and r["volume_ml_ET_truth"] == 0}
            says_so = sum(r["enhancement_stated"] == "absent" for r in cases.values())
            none = lines[NONE]
            said.append(
                f"False ET, cases without ET (n={len(cases)}, of which {says_so} true reports say so): "
                f"{none['false_ET_ml_sum']:.2f} ml without a report ({none['false_ET_ml_mean']:.3f} ml per case), "
                f"{true['false_ET_ml_sum']:.2f} ml with the true one ({true['false_ET_ml_mean']:.3f} ml per case)."
            )
    wrong = [line for kind, line in lines.items() if kind not in (NONE, TRUE) and line["cases"]]
    if wrong:
        worst = min(wrong, key=lambda line: line["difference_mean"])
        said.append(f"Worst of the changed reports: {_title(worst['kind'])}, mean Dice {_difference(worst, 'mean')}.")
    if (flipped := lines.get("flip_side")) and flipped.get("pairs"):
        said.append(
            f"Consistency of the true report above that of the one with its side flipped: {flipped['told_apart']:.1%} "
            f"of {flipped['pairs']} cases; AUC {flipped['auc']:.3f}."
        )
    if TRUE in lines and lines[TRUE]["warned"] is not None:
        share, unused, number = lines[TRUE]["warned"], 1 - lines[TRUE]["used"], lines[TRUE]["cases"]
        said.append(f"True reports with a warning: {share:.1%} of {number}; not used: {unused:.1%}.")
    return said


def _difference(line: dict, name: str) -> str:
    text = figure(line[f"difference_{name}"], line[f"difference_{name}_sd"], sign="+")
    return f"{text}{_interval(line, name)}"


def _interval(line: dict, name: str) -> str:
    low, high = line[f"difference_{name}_low"], line[f"difference_{name}_high"]
    return "" if low is None else f" [{low:+.3f}, {high:+.3f}]"


def _title(kind: str) -> str:
    return TITLES.get(kind, kind.replace("_", " "))


# What people look at


def to_markdown(summary: Sequence[dict], rows: Sequence[dict], run: dict, failures: dict[str, str]) -> str:
    """The tables, what they come to, and what their figures mean nothing without."""
    dice = [
        [_title(s["kind"]), s["cases"], *(figure(s[f"dice_{m}"], s[f"dice_{m}_sd"]) for m in MEASURES)] for s in summary
    ]
    heads = ["WT", "TC", "ET", "mean", "ET, cases with ET"]
    changes = [[_title(s["kind"]), *(_difference(s, m) for m in MEASURES)] for s in summary if s["kind"] != NONE]
    scores = [
        [
            _title(s["kind"]),
            figure(s["false_ET_ml_sum"], digits=2),
            figure(s["false_ET_ml_mean"]),
            *(figure(s.get(column), digits=2) for column in ("used", "consistency", "warned", "told_apart", "auc")),
        ]
        for s in summary
    ]
    cases = {r["case"]: r for r in rows}
    written = sum(r["report"] == WRITTEN for r in cases.values())
    missing = sorted({name for r in rows for name in r["sequences_missing"].split()}, key=SEQUENCES.index)
    unchanged = [f"{_title(s['kind'])} ({s['unchanged']})" for s in summary if s["unchanged"]]
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
    panels[0].set_yticks(range(len(summary)), [f"{_title(s['kind'])} (n={s['cases']})" for s in summary])
    panels[0].set_ylim(len(summary) - 0.45, -0.55)
    picture.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    save_figure(picture, stem)


# The command


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--cases", type=Path, help="folder of cases; those with a label are taken")
    add("--dataset_dir", type=Path, help="folder that the datalist is relative to")
    add("--datalist", type=Path, help="JSON of scripts/prepare_brats.py, instead of --cases")
    add("--section", nargs="+", default=["testing"], help="of the datalist (default: testing)")
    add("--output", type=Path, default=Path("runs/report_robustness"), help="folder for results (default: %(default)s)")
    add("--checkpoint", type=Path, help="weights (default: those the bundle ships with)")
    add("--device", help="cpu or cuda (default: a GPU if there is one)")
    some = f"some of {', '.join(KINDS)} (default: all; {NONE} is always measured)"
    add("--kinds", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=some)
    add("--without", nargs="+", choices=SEQUENCES, default=[], metavar="SEQUENCE", help="leave these sequences away")
    add("--unscreened", action="store_true", help="use every report, also one that puts the tumour elsewhere")
    add("--limit", type=int, help="measure the first N cases only")
    add("--seed", type=int, default=0, help="of what is drawn for changed and written reports (default: %(default)s)")
    args = parser.parse_args(argv)
    if (args.limit is not None and args.limit < 1) or args.seed < 0:
        parser.error("--limit must be at least 1, --seed at least 0")
    if len(set(args.without)) == len(SEQUENCES):
        parser.error("--without must leave one sequence")
    if args.device and (args.device.split(":")[0] not in ("cpu", "cuda") or not _there(args.device)):
        parser.error("--device must be cpu, or cuda where there is a GPU")
    args.kinds = [kind for kind in KINDS if kind in {NONE, *args.kinds}]
    return args


def _there(device: str) -> bool:
    return device.startswith("cpu") or torch.cuda.is_available()


def _run(args: argparse.Namespace, console: Console, command: str) -> dict[str, str]:
    """Measure case after case, and write what came out; returns which cases failed, and why."""
    found = labelled_cases(args.cases, args.dataset_dir, args.datalist, args.section)
    screen = {"screen_reports": False} if args.unscreened else {}
    segmenter = Segmenter(checkpoint=args.checkpoint, device=args.device, **screen)
    run = collect_run_info(command, segmenter.checkpoint, device=str(segmenter.device), seed=args.seed)
    reports, failures, rows = {}, {}, []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        # Of cases beyond the limit only what costs nothing: they are other patients, too.
        wanted = found[: args.limit] + [case for case in found[len(found[: args.limit]) :] if case.get("report")]
        for number, case in enumerate(progress.track(wanted, description="reports")):
            try:
                reports[case["case"]] = report_of(case, args.seed)
            except InputError as error:
                if number < len(found[: args.limit]):  # the others only lend their reports
                    failures[case["case"]] = str(error)
        for case in progress.track(found[: args.limit], description="cases"):
            name = case["case"]
            if name in failures:
                continue
            others = [text for other, text in reports.items() if patient_of(other) != patient_of(name)]
            try:
                texts = texts_of(case, reports[name], others, args.kinds, args.seed)
                rows += measure(segmenter, case, read_truth(case, args.seed), texts, args.without)
            except InputError as error:
                failures[name] = str(error)
            if rows:
                write_metrics_csv(rows, args.output / f"{NAME}.csv")  # as far as it has come, should it be cut off
    if rows:
        summary = summarise(rows)
        write_metrics_csv(summary, args.output / f"{NAME}_summary.csv")
        draw(summary, rows, args.output / NAME)
        with atomic_write(args.output / f"{NAME}.md") as draft:
            draft.write_text(to_markdown(summary, rows, run, failures), encoding="utf-8")
        console.print("\n".join([*in_short(summary, rows), f"Wrote {args.output / NAME}.md, .csv, .png and .svg."]))
    return failures


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 when a case failed, 2 when the input is of no use."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _arguments(argv)
    command = shlex.join(["python", f"scripts/{NAME}.py", *argv])
    try:
        failures = _run(args, Console(soft_wrap=True, markup=False, highlight=False), command)
    except BratsClipError as error:
        sys.stderr.write(f"{NAME}: {error}\n")
        return 2
    for case, reason in failures.items():
        sys.stderr.write(f"{NAME}: {case}: {reason}\n")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
