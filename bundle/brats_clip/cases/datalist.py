"""Write and read the datalist: the cases of each section, in the style of the Medical Segmentation Decathlon."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path, PurePath

from ..errors import CaseError, InputError, ReportError
from ..images import atomic_write
from ..switches import read_switch
from .check import CaseCheck
from .find import survey
from .naming import SEQUENCES, patient_of, split_channel
from .report import looks_like_path
from .split import SECTIONS, fold_of, split_patients

UNLABELED = "unlabeled"
_PATHS = (*SEQUENCES, "label", "report_path")
LABELS = {"0": "background", "1": "NCR", "2": "ED", "4": "ET"}


def make_datalist(
    cases: Iterable[dict],
    root: str | PathLike,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    folds: int = 5,
    seed: int = 0,
    checks: Iterable[CaseCheck] = (),
    left_out: Mapping[str, str] | None = None,
) -> dict:
    """Assign cases to sections.

    Args:
        cases: as from ``find_cases(root)``.
        root: folder that the paths in the datalist are relative to.
        fractions: shares of training, validation and testing, counted in patients; see ``split_patients``.
        folds: number of folds over training and validation together, for cross-validation; 0 for none.
        seed: random seed of the split and the folds.
        checks: results of ``check_cases``, whose label conventions are recorded.
        left_out: reason by case for cases that are not in the list, recorded.

    Returns:
        ``training``, ``validation`` and ``testing``: lists of cases with a label; ``unlabeled``: cases without one.
        Paths have forward slashes. Metadata: name, description, seed, fractions, folds, sequences, labels,
        label_conventions, number, left_out.

    Raises:
        InputError: if the fractions are not three shares that add up to 1, or ``folds`` is below 0.
    """
    if folds < 0:
        raise InputError("folds", str(folds), "0 (none) or more")
    root = Path(root).expanduser().absolute()
    cases = sorted(cases, key=lambda case: case["case"])
    sections = split_patients((patient_of(c["case"]) for c in cases if "label" in c), fractions, seed)
    lists: dict[str, list[dict]] = {section: [] for section in (*SECTIONS, UNLABELED)}
    for case in cases:
        patient = patient_of(case["case"])
        section = sections[patient] if "label" in case else UNLABELED
        entry = {key: _relative(value, root) if key in _PATHS else value for key, value in case.items()}
        # The test cases stay out of every fold, so that cross-validation never trains on them.
        if folds and section in ("training", "validation"):
            entry["fold"] = fold_of(patient, folds, seed)
        lists[section].append(entry)
    return {
        "name": root.name,
        "description": f"Made by prepare_brats. Paths are relative to the folder {root.name}.",
        "seed": seed,
        "fractions": list(fractions),
        "folds": folds,
        "sequences": list(SEQUENCES),
        "labels": LABELS,
        "label_conventions": dict(Counter(check.label_convention for check in checks if check.label_convention)),
        "left_out": dict(left_out or {}),
        "number": {section: len(entries) for section, entries in lists.items()},
        **lists,
    }


def write_datalist(datalist: dict, path: str | PathLike) -> None:
    """Write a datalist as JSON, atomically.

    Raises:
        InputError: if the file cannot be written.
    """
    try:
        with atomic_write(path) as draft:
            draft.write_text(json.dumps(datalist, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as reason:
        raise InputError(path, f"a path that cannot be written ({reason.strerror})", "a writable path") from reason


def load_datalist(datalist: str | PathLike, dataset_dir: str | PathLike, section: str | Sequence[str]) -> list[dict]:
    """Read the cases of one or more sections, with absolute paths.

    Args:
        datalist: JSON file written by ``scripts/prepare_brats.py``.
        dataset_dir: folder that its paths are relative to.
        section: ``training``, ``validation``, ``testing``, ``unlabeled``, or a list of them.

    Raises:
        InputError: if the file is missing or not a datalist, a section is missing, or all given sections are empty.
        CaseError: if a case lacks a sequence, or one of its files does not exist.
    """
    content = _read_json(datalist)
    names = [section] if isinstance(section, str) else list(section)
    lists = {key: value for key, value in content.items() if isinstance(value, list) and _is_section(value)}
    there = ", ".join(f"{key} ({len(value)})" for key, value in lists.items())
    for name in names:
        if name not in lists:
            raise InputError(datalist, f"no section {name!r}", f"one of {there or ', '.join(SECTIONS)}")
    entries = [entry for name in names for entry in lists[name]]
    if not entries:
        raise InputError(datalist, f"no case in {' and '.join(map(repr, names))}", f"cases; there are {there}")
    root = undo_resolver(dataset_dir).expanduser().absolute()
    if not root.is_dir():
        raise InputError(root, "no such folder", f"the folder that the paths in {datalist} are relative to")
    cases = [_resolve(entry, root, datalist) for entry in entries]
    absent = [path for case in cases for path in _paths(case) if not path.is_file()]
    if absent:
        more = f" ({len(absent)} files are missing)" if len(absent) > 1 else ""
        raise CaseError(absent[0], f"no file{more}", f"the file named in {datalist}, below {root}")
    return cases


def load_cases(
    dataset_dir: str | PathLike,
    report: str = "",
    report_path: str | PathLike = "",
    clicks: Mapping | Sequence | None = None,
    brain_mask: str | PathLike = "",
    allow_missing_sequences: bool | str = False,
) -> list[dict]:
    """Find the cases of a folder for inference.

    Incomplete cases are included, with only ``case`` and ``problem``, the error that ``LoadCased`` raises: a batch
    lists them at its end.

    Args:
        dataset_dir: a folder of cases, or the folder of one case.
        report: text of the report, for a single case; "" uses the reports found beside the images.
        report_path: path of a text file with the report, instead of ``report``.
        clicks: for a single case, positions by kind or ordered pairs; see ``clicks.place_clicks``.
        brain_mask: for a single case, path of a brain mask on the grid of one of its sequences.
        allow_missing_sequences: also accept cases with one to three sequences; a bool, "true" or "false".

    Raises:
        InputError: if there is no case, a prompt or mask is given for several cases, or both report and path are given.
        ReportError: if ``report`` looks like a path.
        CaseError: if all cases are incomplete, naming them, or a case id occurs twice.
    """
    found = survey(undo_resolver(dataset_dir))
    allowed = read_switch("allow_missing_sequences", allow_missing_sequences)
    partial = [left_out.partial for left_out in found.left_out if allowed and left_out.partial]
    incomplete = [left_out for left_out in found.left_out if left_out.has_images and left_out.partial not in partial]
    advice = "; --allow_missing_sequences true accepts cases with fewer sequences"
    errors = {}
    for left_out in incomplete:
        error = left_out.error
        wanted = error.expected + (advice if left_out.partial else "")
        errors[left_out.case] = type(error)(error.where, error.found, wanted)
    cases = sorted(found.cases + partial, key=lambda case: case["case"])
    if not cases and len(errors) == 1:
        raise next(iter(errors.values()))
    if not cases and errors:
        reasons = "; ".join(left_out.error.found for left_out in incomplete)
        expected = f"four sequences for every case{advice}"
        raise CaseError(dataset_dir, f"{len(incomplete)} incomplete: {reasons}", expected)
    if not cases:
        raise found.left_out[0].error
    cases += [{"case": case, "problem": error} for case, error in errors.items()]
    cases.sort(key=lambda case: case["case"])
    if looks_like_path(report):
        raise ReportError("report", f"{report!r}, which looks like a path", "the text; --report_path takes a path")
    if report.strip() and report_path:
        raise InputError("report and report_path", "both", "one of the two")
    prompts = {
        "report": report.strip() and report,
        "report_path": report_path and str(undo_resolver(report_path)),
        "clicks": clicks,
        "brain_mask": brain_mask and str(undo_resolver(brain_mask)),
    }
    given = {key: value for key, value in prompts.items() if value}
    if given and len(cases) > 1:
        names = {
            "report": "one report",
            "report_path": "one report",
            "clicks": "clicks",
            "brain_mask": "one brain mask",
        }
        what = " and ".join(names[key] for key in given)
        raise InputError(" and ".join(given), f"{what} for {len(cases)} cases", "a folder with one case")
    return [{**case, **given} for case in cases]


def undo_resolver(path: str | PathLike) -> Path:
    """Return a path as the user gave it: MONAI's config parser turns every ``#`` in a value into ``::``."""
    path = Path(path)
    return path if "::" not in str(path) or path.exists() else Path(str(path).replace("::", "#"))


def _read_json(datalist: str | PathLike) -> dict:
    expected = "a datalist, as scripts/prepare_brats.py writes it"
    try:
        content = json.loads(Path(datalist).read_text(encoding="utf-8"))
    except FileNotFoundError as reason:
        raise InputError(datalist, "no file", expected) from reason
    except json.JSONDecodeError as reason:
        found = f"malformed JSON at line {reason.lineno}, column {reason.colno} ({reason.msg})"
        raise InputError(datalist, found, expected) from reason
    except (OSError, UnicodeDecodeError) as reason:
        raise InputError(datalist, f"a file that cannot be read ({reason})", expected) from reason
    if not isinstance(content, dict):
        raise InputError(datalist, f"a JSON {type(content).__name__}", expected)
    return content


def _is_section(value: list) -> bool:
    return all(isinstance(entry, dict) for entry in value)


def _relative(value: str | PathLike, root: Path) -> str:
    return PurePath(os.path.relpath(value, root)).as_posix()


def _resolve(entry: dict, root: Path, datalist: str | PathLike) -> dict:
    if missing := [sequence for sequence in SEQUENCES if not isinstance(entry.get(sequence), str)]:
        name = entry.get("case", f"with {', '.join(map(str, entry)) or 'no entries'}")
        raise CaseError(datalist, f"case {name} without {', '.join(missing)}", f"paths by {', '.join(SEQUENCES)}")
    if looks_like_path(entry.get("report")):  # a datalist of an earlier version
        entry = {key if key != "report" else "report_path": value for key, value in entry.items()}
    return {key: str(root / value) if key in _PATHS and value else value for key, value in entry.items()}


def _paths(case: dict) -> set[Path]:
    return {Path(split_channel(value)[0]) for key, value in case.items() if key in _PATHS and value}
