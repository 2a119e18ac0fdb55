"""Check a folder of cases (BraTS 2018-2024, MSD Task01 or phantoms) and write the datalist that training reads.

    python scripts/prepare_brats.py DATASET_DIR --output datalist.json

Patients are assigned by a hash of seed and patient id: the split does not depend on the order of folders, and patients
added later do not move earlier ones (with few patients, one may move: a section that would be empty borrows one). Cases
without a label go into the section "unlabeled".
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from rich.console import Console
from rich.table import Table

from brats_clip.errors import InputError
from measuring.command import run_command

if TYPE_CHECKING:  # deferred, since brats_clip.cases imports torch, which is slow
    from brats_clip.cases import CaseCheck, Survey

CONVENTIONS = ("brats2018", "brats2023", "msd")
SHOWN = 50  # most lines printed about single cases; the datalist has all


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0, or 2 if nothing can be written."""
    return run_command("prepare_brats", argv, _arguments, _prepare)


def _arguments(argv: list[str]) -> argparse.Namespace:
    description, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset_dir", type=Path, help="folder with the cases, at any depth")
    parser.add_argument("--output", type=Path, default=Path("datalist.json"), help="file to write (%(default)s)")
    parser.add_argument(
        "--fractions",
        type=float,
        nargs=3,
        default=(0.7, 0.1, 0.2),
        metavar=("TRAINING", "VALIDATION", "TESTING"),
        help="shares of the labelled patients, which must add up to 1 (0.7 0.1 0.2)",
    )
    parser.add_argument(
        "--folds", type=int, default=5, help="folds over training and validation together, 0 for none (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another split (%(default)s)")
    parser.add_argument(
        "--label_convention",
        choices=("auto", *CONVENTIONS),
        default="auto",
        help="meaning of the label values; auto decides by file names and values. Needed for copies of MSD Task01 "
        "under BraTS names, whose 1 and 2 are swapped",
    )
    parser.add_argument(
        "--skip_image_checks", action="store_true", help="use file names only; open no image, label or report"
    )
    parser.add_argument("--workers", type=int, default=2, help="cases checked in parallel (%(default)s)")
    return parser.parse_args(argv)


def _prepare(args: argparse.Namespace, console: Console, command: str) -> dict[str, str]:
    from brats_clip.cases import check_cases, make_datalist, split_patients, survey, write_datalist
    from brats_clip.labels import BRATS_2018, BRATS_2023, MSD

    split_patients((), args.fractions)  # fail before the checks, which can take an hour
    if args.output.is_dir():
        raise InputError(args.output, "a folder", "a file to write")
    found = survey(args.dataset_dir)
    # A label without images, such as a prediction, may have the id of a complete case.
    left_out = {e.case if e.has_images else f"{e.case} in {e.error.where}": str(e.error) for e in found.left_out}
    if args.label_convention != "auto":
        convention = (BRATS_2018, BRATS_2023, MSD)[CONVENTIONS.index(args.label_convention)]
        for case in found.cases:
            if "label" in case:
                case["label_convention"] = convention
    checks: list[CaseCheck] = []
    if not args.skip_image_checks:
        checks = check_cases(found.cases, args.workers, progress=True)
        left_out |= {check.case: " ".join(map(str, check.problems)) for check in checks if not check.ok}
        checks = [check for check in checks if check.ok]
    # The datalist is shared with the data: absolute paths of this machine do not belong in it.
    root = str(args.dataset_dir.expanduser().absolute())
    left_out = {case.replace(root, "."): why.replace(f"{root}/", "") for case, why in sorted(left_out.items())}
    cases = [case for case in found.cases if case["case"] not in left_out]
    _show_left_out(left_out, console)
    if not cases:
        raise InputError(args.dataset_dir, f"{len(left_out)} cases, none usable", "at least one usable case")
    datalist = make_datalist(cases, root, args.fractions, args.folds, args.seed, checks, left_out)
    write_datalist(datalist, args.output)
    _show(datalist, found, checks, console)
    console.print(f"Wrote {args.output}: {len(cases)} cases, {len(left_out)} left out.")
    return {}


def _show(datalist: dict, found: Survey, checks: list[CaseCheck], console: Console) -> None:
    from brats_clip.cases import SECTIONS, UNLABELED, patient_of

    namings = ", ".join(f"{name} ({count})" for name, count in found.namings.items())
    conventions = ", ".join(f"{name}: {count} cases" for name, count in datalist["label_conventions"].items())
    console.print(f"File names: {namings}")
    console.print(f"Label convention: {conventions or ('no label' if checks else 'not checked')}")
    wt_ml = {check.case: check.volumes["WT"] for check in checks if check.volumes}
    et_ml = {check.case: check.volumes["ET"] for check in checks if check.volumes}
    table = Table(title=f"{datalist['name']}, seed {datalist['seed']}")
    for column in ("section", "cases", "patients", "with report", "without ET", "median WT (ml)"):
        table.add_column(column, justify="left" if column == "section" else "right", no_wrap=True)
    for section in (*SECTIONS, UNLABELED):
        entries = datalist[section]
        ids = [entry["case"] for entry in entries]
        measured = [case for case in ids if case in wt_ml]
        table.add_row(
            section,
            str(len(entries)),
            str(len({patient_of(case) for case in ids})),
            str(sum("report_path" in entry for entry in entries)),
            str(sum(et_ml[case] == 0 for case in measured)) if measured else "-",
            f"{statistics.median(wt_ml[case] for case in measured):.1f}" if measured else "-",
        )
    console.print(table)
    if folds := datalist["folds"]:
        used = Counter(entry.get("fold") for section in SECTIONS for entry in datalist[section])
        sizes = [used[fold] for fold in range(folds)]
        hint = "" if all(sizes) else f"; too few patients for {folds} folds"
        if any(sizes):  # with test cases alone nothing is in a fold
            console.print(f"Cases per fold (training and validation): {', '.join(map(str, sizes))}{hint}")
    notes = [f"{check.case}: {note}" for check in checks for note in check.notes]
    _show_lines("Notes", notes, console)


def _show_left_out(left_out: dict[str, str], console: Console) -> None:
    _show_lines(f"Left out ({len(left_out)})", [f"{case}: {reason}" for case, reason in left_out.items()], console)


def _show_lines(title: str, lines: list[str], console: Console) -> None:
    if not lines:
        return
    console.print(f"{title}:")
    for line in lines[:SHOWN]:
        console.print(f"  {line}")
    if len(lines) > SHOWN:
        console.print(f"  and {len(lines) - SHOWN} more")


if __name__ == "__main__":
    sys.exit(main())
