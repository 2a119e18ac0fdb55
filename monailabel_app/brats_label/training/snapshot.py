"""Snapshot of the cases and options at the start of a training, and whether to resume an interrupted training."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from brats_clip.cases import SEQUENCES, case_report
from brats_clip.engines import EpochCheckpoint
from brats_clip.errors import InputError, WeightsError
from brats_clip.evaluation import sha256_of
from brats_clip.evaluation.labelled import labelled_cases

from ..durable import sync, write_json
from . import CORRECTED_WEIGHT, TrainOptions
from .split import SIDES

logger = logging.getLogger(__name__)

FILE = "run.json"
# No effect on the result: threads only affect speed, and the weights themselves are compared, not their name.
_NOT_COMPARED = ("resume", "threads", "start_from")
_NAMED = 5  # cases listed in a sentence, at most


class Snapshot:
    """A folder with copies of the labels of a training, and ``run.json`` with all that is needed to resume it.

    ``run.json`` is written last and removed first: if it exists, the snapshot is complete.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"

    def begin(self, cases: Mapping[str, Sequence[Mapping]], options: TrainOptions, weights: Mapping[str, Any]) -> None:
        """Replace the previous snapshot: store the cases by side, the options, and the weights to start from.

        Raises:
            InputError: if a label or a report cannot be read.
        """
        prints = fingerprints(cases)
        self.drop()
        (self.folder / "labels").mkdir(parents=True)
        sections = {side: [self._keep(case, f"{side}_{i}") for i, case in enumerate(cases[side])] for side in SIDES}
        sync(self.folder / "labels")
        facts = {"options": options.model_dump(), "weights": dict(weights), "fingerprints": prints, **sections}
        write_json(self.folder / FILE, facts)

    def note(self, **facts: Any) -> None:
        """Add entries to ``run.json``."""
        write_json(self.folder / FILE, {**self.content(), **facts})

    def content(self) -> dict[str, Any]:
        """Return the content of ``run.json``: what ``begin`` and ``note`` stored.

        Raises:
            InputError: if there is no ``run.json``, or it is damaged.
        """
        path = self.folder / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            TrainOptions(**content["options"])
            content["weights"], content["fingerprints"]
        except (OSError, ValueError, KeyError, TypeError) as reason:
            raise InputError(path, f"no training ({type(reason).__name__})", "one that was begun") from reason
        return content

    def options(self) -> TrainOptions:
        """Return the options of the training."""
        return TrainOptions(**self.content()["options"])

    def resumable(self) -> bool:
        """Return whether this training was interrupted after one epoch or more, and its images still exist."""
        try:
            content = self.content()
        except InputError:
            return False
        paths = [case[s] for side in SIDES for case in content[side] for s in SEQUENCES if s in case]
        return bool(content.get("before")) and self.epoch() > 0 and all(Path(path).is_file() for path in paths)

    def epoch(self) -> int:
        """Return the last epoch with a saved checkpoint; 0 without any."""
        path = EpochCheckpoint(str(self.checkpoints), {}).latest()
        return int(path.stem.split("=")[1]) if path else 0

    def drop(self) -> None:
        """Remove the folder, ``run.json`` first: if the removal is interrupted, there is no snapshot any more."""
        (self.folder / FILE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self, case: Mapping[str, Any], name: str) -> dict[str, Any]:
        source = Path(case["label"])
        # With this name its values are read as BraTS 2018 to 2022 (ET is 4), whatever the names of the images.
        copy = self.folder / "labels" / f"{name}_seg{'.nii.gz' if source.name.endswith('.gz') else '.nii'}"
        try:
            shutil.copy2(source, copy)  # keeps the modification time: a key of the cache of prepared cases
            sync(copy)
        except OSError as reason:
            raise InputError(source, f"a label that cannot be read ({reason.strerror})", "a label map") from reason
        return {
            "case": str(case["case"]),
            **{sequence: str(case[sequence]) for sequence in SEQUENCES if case.get(sequence)},
            "label": str(copy),
            "report": case_report(case),
            "weight": CORRECTED_WEIGHT if case.get("corrected") else 1.0,
        }


def fingerprints(cases: Mapping[str, Sequence[Mapping]]) -> dict[str, dict[str, Any]]:
    """Return the data of each training case, by its id: side, image paths, report, and SHA-256 of the label.

    Raises:
        InputError: if a label or a report cannot be read.
    """
    return {str(case["case"]): _fingerprint(case, side) for side in SIDES for case in cases[side]}


def _fingerprint(case: Mapping[str, Any], side: str) -> dict[str, Any]:
    try:
        label = sha256_of(case["label"])
    except (OSError, WeightsError) as reason:
        why = getattr(reason, "strerror", None) or "no file"
        raise InputError(case["label"], f"a label that cannot be read ({why})", "a label map") from reason
    images = {sequence: str(case[sequence]) for sequence in SEQUENCES if case.get(sequence)}
    return {"side": side, "images": images, "report": case_report(case), "label": label}


def read_cases(folder: str, section: str, phantoms: str = "") -> list[dict]:
    """Return the cases of one side, for ``train.json``, and the labelled cases in ``phantoms``, marked as synthetic."""
    made = labelled_cases(phantoms) if phantoms else []
    return [*Snapshot(Path(folder)).content()[section], *({**case, "synthetic": True} for case in made)]


def decide(
    snapshot: Snapshot, cases: Mapping[str, Sequence[Mapping]], options: TrainOptions, weights: Mapping[str, Any]
) -> tuple[bool, str]:
    """Return whether to resume the training of ``snapshot``, and a sentence with the reason.

    A training is resumed only with the same cases, options and weights: clients ask to train on all labels so far.

    Args:
        snapshot: of the last training, if it was interrupted.
        cases: labelled cases by side, as they are now.
        options: of the new request.
        weights: to start from: ``name`` and ``sha256``.

    Raises:
        InputError: if a label or a report cannot be read.
    """
    if not snapshot.resumable():
        return False, f"A new training from {weights['name']}."
    epoch, content = snapshot.epoch(), snapshot.content()
    before = content["weights"]
    if not options.resume:
        reasons = ["resume is off"]
    else:
        reasons = [
            *([f"it started from {before['name']}"] if before["sha256"] != weights["sha256"] else ()),
            *_of_options(snapshot.options(), options),
            *_of_cases(content["fingerprints"], fingerprints(cases)),
        ]
    if reasons:
        why = "; ".join(reasons)
        return (
            False,
            f"A new training from {weights['name']}; the one interrupted after epoch {epoch} is discarded: {why}.",
        )
    same = "labels, options and weights are the same"
    return True, f"Resumed after epoch {epoch} of {options.max_epochs} of the training that was interrupted: {same}."


def _of_options(before: TrainOptions, now: TrainOptions) -> list[str]:
    names = [name for name in TrainOptions.model_fields if name not in _NOT_COMPARED]
    pairs = [(name, getattr(before, name), getattr(now, name)) for name in names]
    return [f"{name} was {old:g} and is {new:g}" for name, old, new in pairs if old != new]


def _of_cases(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    changed = [case for case in before if case in now and before[case] != now[case]]
    sorts = {
        "new labelled cases": now.keys() - before.keys(),
        "cases no longer there": before.keys() - now.keys(),
        "changed labels, reports or images": changed,
    }
    return [f"{what}: {_listed(some)}" for what, some in sorts.items() if some]


def _listed(cases: Iterable[str]) -> str:
    names = sorted(cases)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
