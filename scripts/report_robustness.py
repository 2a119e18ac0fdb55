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
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from rich.console import Console

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES, patient_of
from brats_clip.errors import InputError
from brats_clip.evaluation import atomic_write, collect_run_info, write_metrics_csv
from brats_clip.evaluation.labelled import labelled_cases, read_truth, report_of
from measuring.command import add_case_options, check_device, make_progress, run_command
from measuring.robustness_page import NAME, draw, to_markdown
from measuring.robustness_summary import in_short, summarise
from measuring.robustness_texts import KINDS, NONE, measure, texts_of


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_case_options(parser)
    add = parser.add_argument
    add("--output", type=Path, default=Path(f"runs/{NAME}"), help="folder for results (default: %(default)s)")
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
    check_device(parser, args.device or "cpu")
    args.kinds = [kind for kind in KINDS if kind in {NONE, *args.kinds}]
    return args


def _run(args: argparse.Namespace, console: Console, command: str) -> dict[str, str]:
    """Measure case after case, and write what came out; returns which cases failed, and why."""
    found = labelled_cases(args.cases, args.dataset_dir, args.datalist, args.section)
    screen = {"screen_reports": False} if args.unscreened else {}
    segmenter = Segmenter(checkpoint=args.checkpoint, device=args.device, **screen)
    run = collect_run_info(command, segmenter.checkpoint, device=str(segmenter.device), seed=args.seed)
    reports, failures, rows = {}, {}, []
    with make_progress(console) as progress:
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
    return run_command(NAME, argv, _arguments, _run)


if __name__ == "__main__":
    sys.exit(main())
