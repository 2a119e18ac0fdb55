"""Segment a batch of cases: unreadable cases are skipped and reported, and input files are never overwritten."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path

from ignite.engine import Engine
from monai.data import DataLoader, Dataset

from ..cases import SEQUENCES, split_channel, undo_resolver
from ..errors import BratsClipError, CaseError, InputError
from ..evaluation import write_metrics_csv
from ..switches import read_switch
from .command_line import plain_message

logger = logging.getLogger(__name__)


class CaseLoader(DataLoader):
    """A data loader that skips cases with unusable files, and records the errors.

    With a single case, its error is raised. Errors other than ``BratsClipError`` end the batch.

    Attributes:
        failures: error message by case.
    """

    def __init__(self, dataset: Dataset, **kwargs) -> None:
        super().__init__(dataset, batch_size=1, shuffle=False, **kwargs)
        self.failures: dict[str, str] = {}
        self._exhausted = False

    def __iter__(self) -> Iterator:
        if self._exhausted:  # ignite asks again for the missing batches
            self._exhausted = False
            return
        cases, batches = iter(self.dataset.data), super().__iter__()
        while (case := next(cases, None)) is not None:
            try:
                batch = next(batches)
            except StopIteration:
                break
            except (BratsClipError, RuntimeError) as error:
                message = plain_message(error)
                if message is None or len(self.dataset) == 1:
                    raise
                self.failures[str(case["case"])] = message
                logger.error("%s: not segmented. %s", case["case"], message)
                continue
            yield batch
        self._exhausted = bool(self.failures)


def run_batch(evaluator: Engine, loader: CaseLoader, output_dir: str | PathLike) -> None:
    """Run an evaluator over all cases of a loader, and write ``results.csv`` for all results in ``output_dir``.

    Raises:
        CaseError: at the end, listing the cases that could not be read.
    """
    if not len(loader):
        logger.info("all cases are already segmented in %s", output_dir)
        return
    loader.failures.clear()
    try:
        evaluator.run()
    finally:
        write_results(output_dir)
    if loader.failures:
        some = "; ".join(f"{case} ({message})" for case, message in loader.failures.items())
        found = f"{len(loader.failures)} of {len(loader)} cases that could not be segmented: {some}"
        raise CaseError(output_dir, found, "readable images; the other cases are done, and --skip_done true skips them")


def write_results(output_dir: str | PathLike) -> None:
    """Write ``results.csv``: a row per case with volumes, expected Dice and the first place to check, worst first."""
    output, rows = undo_resolver(output_dir), []
    for path in sorted(output.glob("*/*.json")):
        if path.stem != path.parent.name:
            continue
        facts = json.loads(path.read_text(encoding="utf-8"))
        expected, places = facts.get("expected_dice"), facts.get("look_here")
        row = {"case": path.stem} | {f"volume_ml_{r}": volume for r, volume in facts["volumes_ml"].items()}
        if expected:
            mean = sum(expected.values()) / len(expected)
            row |= {f"expected_dice_{region}": dice for region, dice in expected.items()} | {"expected_dice_mean": mean}
        rows.append(row | {"look_here": places[0]["text"] if places else ""})
    if rows:
        rows.sort(key=lambda row: row.get("expected_dice_mean", 0.0))
        write_metrics_csv(rows, output / "results.csv")


def cases_to_do(cases: Sequence[Mapping], output_dir: str | PathLike, skip_done: bool | str = False) -> list[Mapping]:
    """Return the cases of a batch that still have to be segmented into ``output_dir``.

    Args:
        cases: as from ``load_cases``.
        output_dir: folder of the results.
        skip_done: leave out cases whose result is already complete.

    Raises:
        InputError: if a result would be written beside or among the files of the data set.
    """
    output = undo_resolver(output_dir).expanduser().absolute()
    for case in cases:
        for key in (*SEQUENCES, "label"):
            if not isinstance(case.get(key), str | PathLike):
                continue
            source = Path(split_channel(case[key])[0]).absolute().parent
            target = output / str(case["case"])
            if target.resolve() == source.resolve() or output.resolve() == source.resolve():
                found = f"the folder of {Path(split_channel(case[key])[0]).name}"
                raise InputError(output, found, "a folder for the results outside the data set: --output_dir")
    if not read_switch("skip_done", skip_done):
        return list(cases)
    return [case for case in cases if not (output / str(case["case"]) / f"{case['case']}.json").is_file()]


def check_output_dir(output_dir: str | PathLike, dataset_dir: str | PathLike) -> str:
    """Return ``output_dir`` if it is neither the data set's folder nor inside it.

    Raises:
        InputError: if results would be written among the images and labels of the data set.
    """
    output, data = (undo_resolver(path).expanduser().resolve() for path in (output_dir, dataset_dir))
    if output == data or data in output.parents:
        raise InputError(
            output_dir, "a folder of the data set", f"a folder outside {dataset_dir}, where nothing can be overwritten"
        )
    return str(output_dir)
