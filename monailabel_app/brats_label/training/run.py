"""The training process: ``python -m brats_label.training.run`` with a job, as JSON, on its standard input.

It is a separate process, so that its thread count, its priority and its memory do not affect the server. It ends when
its parent process ends.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from monai.bundle import ConfigWorkflow

from brats_clip.engines import load_weights, plain_message

from ..errors import ClientError
from ..exit_with_parent import exit_with_parent
from ..models import ModelRegistry
from ..store import Store
from . import CURRENT, TrainOptions
from .progress import BUSY, ProgressFile, ReportProgress, best_of, dice_of
from .snapshot import Snapshot, decide
from .split import SIDES

logger = logging.getLogger(__name__)

NICENESS = 10
PHANTOM_SHARE = 0.5  # of the samples, if a folder of phantoms is given; as in the bundle's mix_phantoms.json


class FineTuning:
    """One fine-tuning of the bundle's ``train.json``, from the snapshot of its cases to the published weights."""

    def __init__(self, job: dict[str, Any], folder: Path, file: ProgressFile) -> None:
        self.job, self.file = job, file
        self.registry = ModelRegistry(job["models"], job["checkpoint"], Store(job["store"]))
        self.snapshot = Snapshot(folder / "run")
        self.cache = folder / "cache"

    def run(self) -> None:
        """Train, and publish the best epoch's weights if they are better than those in use."""
        content, resumed, beginning = self._begin()
        options = self.snapshot.options()
        if self.job["device"] == "cpu":
            torch.set_num_threads(options.threads)
        self.file.update(
            total_epochs=options.max_epochs,
            training_cases=len(content["training"]),
            validation_cases=len(content["validation"]),
            start_from=content["weights"]["name"],
            beginning=beginning,
            sentence=beginning,
            resumed_from=self.snapshot.epoch() if resumed else None,
            epoch=self.snapshot.epoch() if resumed else 0,
        )
        workflow = self._workflow(options, content["weights"]["path"])
        workflow.initialize()
        self.parser = workflow.parser
        self._part("freeze")
        if not resumed:
            current = self.registry.current()
            self.snapshot.note(before=self._measure(current.path), compared_with=current.number)
        content = self.snapshot.content()
        self.file.update(before=content["before"])
        report = self._report()
        workflow.run()
        self._publish(content, best_of(report.rows()))

    def _begin(self) -> tuple[dict[str, Any], bool, str]:
        """Return the snapshot to train on, whether it is resumed, and the reason in words."""
        options = TrainOptions(**self.job["options"])
        in_use = options.start_from == CURRENT
        start = self.registry.current() if in_use else self.registry.named(options.start_from)
        weights = {"number": start.number, "name": start.name, "path": str(start.path), "sha256": start.sha256}
        resumed, beginning = decide(self.snapshot, self.job["cases"], options, weights)
        if not resumed:
            self.snapshot.begin(self.job["cases"], options, weights)
        self.snapshot.note(options=options.model_dump())  # threads may have changed
        return self.snapshot.content(), resumed, beginning

    def _workflow(self, options: TrainOptions, weights: str) -> ConfigWorkflow:
        """Return the bundle's training on these cases; settings not overridden here are those of ``train.json``."""
        bundle = Path(self.job["bundle"])
        cases = {
            side: {
                "_target_": "brats_label.training.snapshot.read_cases",
                "folder": str(self.snapshot.folder),
                "section": side,
            }
            for side in SIDES
        }
        cases["training"]["phantoms"] = self.job["phantoms"]
        # Corrected cases are sampled more often. Phantoms limit forgetting when there are few labels.
        sampler = {"_target_": "brats_clip.engines.mixed_sampler", "cases": "@train#cases"}
        workflow = ConfigWorkflow(
            config_file=str(bundle / "configs" / "train.json"),
            workflow_type="train",
            logging_file=False,
            **{
                "bundle_root": str(bundle),
                "output_dir": str(self.snapshot.folder),
                "cache_dir": str(self.cache),
                "pretrained": weights,
                "resume": True,
                "device": f"$torch.device({self.job['device']!r})",
                "epochs": options.max_epochs,
                "patience": options.patience,
                "learning_rate": options.learning_rate,
                "batch_size": options.batch_size,
                "patch_size": [options.patch_size] * 3,
                "augment": options.augment,
                "spacing": [options.spacing] * 3,
                "num_workers": 0 if self.job["device"] == "cpu" else 2,
                "val_workers": 0,
                "tensorboard": False,
                "progress_bar": False,
                "train#cases": cases["training"],
                "train#sampler": {**sampler, "synthetic_share": PHANTOM_SHARE},
                "validate#dataset#data": cases["validation"],
                "prepare_case#0#allow_missing_sequences": True,
            },
        )
        # A second evaluator with the same components measures weights without triggering the training's handlers.
        validate = workflow.parser["validate"]
        workflow.parser["measure"] = {
            **validate["evaluator"],
            "key_val_metric": validate["key_metric"],
            "additional_metrics": validate["additional_metrics"],
            "val_handlers": [],
        }
        return workflow

    def _part(self, name: str):
        return self.parser.get_parsed_content(name)

    def _measure(self, weights: Path) -> dict[str, float | None]:
        """Return the Dice of weights on the validation cases. Overwrites the EMA network, which training sets again."""
        self.file.update(stage="validating")
        self._part("ema").ema_model.load_state_dict(load_weights(weights))
        evaluator = self._part("measure")
        evaluator.run()
        return dice_of(evaluator.state.metrics)

    def _report(self) -> ReportProgress:
        report = ReportProgress(self.file, self._part("log_curves"))
        report.attach_trainer(self._part("train#trainer"))
        report.attach_evaluator(self._part("validate#evaluator"))
        return report

    def _publish(self, content: dict[str, Any], best: dict | None) -> None:
        self.file.update(stage="publishing", best=best)
        before, current = content["before"], self.registry.current()
        weights = self.snapshot.checkpoints / "model.pt"
        # Already published, if an earlier process was killed between publishing and reporting.
        version = self.registry.find(weights) if weights.is_file() else None
        if version is None and current.number != content["compared_with"]:  # the version in use has changed
            before = self._measure(current.path)
        needed = (before["mean"] or 0.0) + content["options"]["min_gain"]
        if version is None and best is not None and best["mean"] > needed:
            sections = {side: [case["case"] for case in content[side]] for side in SIDES}
            spacing = content["options"]["spacing"]  # mm; Dice on different grids is not comparable
            metrics = {**best, "before": before, "compared_with": current.name, "spacing": spacing}
            version = self.registry.publish(weights, metrics, sections, parent=content["weights"]["number"])
        cases = f"{len(content['validation'])} validation case{'s' * (len(content['validation']) != 1)}"
        found = f"mean Dice {_text(best)} on {cases}, {_text(before)} before"
        if version is None:
            gain = content["options"]["min_gain"]
            verdict = f"Not better by more than {gain:g}: {found}. {current.name} stays in use."
        else:
            verdict = f"Better: {found}. Published as {version.name}."
        self.file.update(status="done", before=before, published=version and version.name, sentence=verdict)
        self.snapshot.drop()
        shutil.rmtree(self.cache, ignore_errors=True)


def _text(dice: dict | None) -> str:
    return "unknown" if dice is None or dice["mean"] is None else f"{dice['mean']:.3f}"


def main() -> int:
    """Run the job on standard input; return the exit status."""
    job = json.load(sys.stdin)
    exit_with_parent(job["parent"])
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=5):
            return _run(job, folder)
    except Timeout:
        return BUSY


def _run(job: dict[str, Any], folder: Path) -> int:
    _temporary_files_in(folder / "tmp")
    file = ProgressFile(folder, job["run"])
    file.update(left_out=job["left_out"])
    try:
        FineTuning(job, folder, file).run()
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            logger.exception("training failed")
            reason = f"an internal error ({type(error).__name__}); the log has the details"
        file.update(status="failed", sentence=f"The training failed: {reason}")
        return 1
    return 0


def _reason(error: Exception) -> str | None:
    """Return what went wrong, in words for the user; None for an internal error."""
    if isinstance(error, ClientError):
        return error.sentence
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU has too little memory left; a smaller patch_size or batch_size needs less."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk of the workspace is full."
    return plain_message(error)


def _temporary_files_in(folder: Path) -> None:
    """Put temporary files on the disk of the cache: MONAI moves them there, which is a rename only within one disk."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tempfile.tempdir = str(folder)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="[%(levelname)s] (%(name)s) %(message)s")
    sys.exit(main())
