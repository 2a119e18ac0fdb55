"""Shared parts of the measurements: select and measure labelled cases, and write result pages."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jinja2
from rich.console import Console

from brats_clip.cases import SEQUENCES, load_datalist
from brats_clip.errors import InputError
from brats_clip.evaluation import MEASURES, collect_run_info, note_training_cases, write_metrics_csv
from brats_clip.evaluation.labelled import labelled_cases
from brats_clip.evaluation.spread import bootstrap_interval
from brats_clip.evaluation.summary import statistics
from brats_clip.evaluation.tables import figure
from brats_clip.images import atomic_write

from .command import make_progress, read_json


def chosen_cases(args: Namespace) -> list[dict]:
    """Return the cases that ``add_case_options`` selects, with their ``checkpoint`` if they are cross-validated.

    Raises:
        InputError: as ``labelled_cases`` does; if no fold of a cross-validation is trained, or it is not the only
            source of cases.
    """
    if args.cross_validation is None:
        return labelled_cases(args.cases, args.dataset_dir, args.datalist, args.section)
    if args.cases or args.datalist:
        raise InputError("cases", "not one source of cases", "--cross_validation without --cases and --datalist")
    cases = []
    for done in sorted(args.cross_validation.glob("fold*/fold.json")):
        weights = str(done.parent / read_json(done).get("weights", "training/checkpoints/model.pt"))
        found = load_datalist(done.with_name("datalist.json"), "/", "testing")
        cases += [{**case, "checkpoint": weights} for case in found]
    if not cases:
        raise InputError(args.cross_validation, "no fold that is trained", "the --output of scripts/cross_validate.py")
    return cases


def measure_cases(
    args: Namespace,
    console: Console,
    command: str,
    name: str,
    make: Callable,
    cases: Sequence[dict],
    measure: Callable[..., list[dict]],
    failures: dict[str, str],
    **options,
) -> tuple[list[dict], dict]:
    """Measure case after case, and update NAME.csv after each.

    Args:
        args: options of ``add_case_options``.
        make: creates a ``Segmenter`` from ``checkpoint``, ``device`` and ``options``.
        cases: as from ``chosen_cases``.
        measure: takes a segmenter and a case; returns the rows of the case.
        failures: receives the failed cases with their reasons.

    Returns:
        All rows, and facts about the run.
    """
    options |= {"tta": True} if args.tta else {}
    rows, loaded = [], cases[0].get("checkpoint", args.checkpoint)
    segmenter = make(checkpoint=loaded, device=args.device, **options)
    run = collect_run_info(command, segmenter.checkpoint, device=str(segmenter.device), seed=args.seed)
    if args.cross_validation is not None:
        run |= {"weights": "those of the fold that did not see the case", "weights_sha256": None}
    if warning := note_training_cases(run, [case["case"] for case in cases]):
        console.print(warning)
    with make_progress(console) as progress:
        for case in progress.track(cases, description="cases"):
            if case["case"] in failures:
                continue
            try:
                if case.get("checkpoint", loaded) != loaded:
                    loaded = case["checkpoint"]
                    segmenter = make(checkpoint=loaded, device=args.device, **options)
                rows += measure(segmenter, case)
            except InputError as error:
                failures[case["case"]] = str(error)
            if rows:
                write_metrics_csv(rows, args.output / f"{name}.csv")
    return rows, run


def sequences_of(case: dict, without: Sequence[str] = ()) -> dict:
    """Return the files of a case by sequence, except those in ``without``."""
    return {sequence: case[sequence] for sequence in SEQUENCES if sequence not in without}


WAYS = ("without", "with")  # a report

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("pages")),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
)


def spread(name: str, values: Iterable[float | None], interval: bool = False) -> dict[str, float | None]:
    """Columns ``NAME`` (mean) and ``NAME_sd``; with ``interval`` the 95 % bootstrap interval, ``_low`` to ``_high``."""
    values = list(values)
    found = statistics(values)
    columns = {name: found["mean"], f"{name}_sd": found["std"]}
    if interval:
        low, high = bootstrap_interval(values)
        columns |= {f"{name}_low": low, f"{name}_high": high}
    return columns


def cell(line: Mapping, name: str, sign: str = "", digits: int = 3) -> str:
    """Format mean ± standard deviation of ``spread``, with its [interval] if there is one."""
    text = figure(line[name], line.get(f"{name}_sd"), sign, digits)
    low, high = line.get(f"{name}_low"), line.get(f"{name}_high")
    return text if low is None else f"{text} [{low:+.{digits}f}, {high:+.{digits}f}]"


def render(template: str, **context: object) -> str:
    """Render ``pages/TEMPLATE.md.j2`` to Markdown; it can also use ``cell``, ``figure`` and the Dice measures."""
    shared = {"measures": list(MEASURES), "dice_heads": [f"Dice {m}" for m in MEASURES], "cell": cell, "figure": figure}
    return _TEMPLATES.get_template(f"{template}.md.j2").render(shared | context)


def write_page(path: Path, template: str, **context: object) -> None:
    """Write the rendered page atomically; ``name`` of the context is the file name without extension."""
    with atomic_write(path) as draft:
        draft.write_text(render(template, name=path.stem, **context), encoding="utf-8")
