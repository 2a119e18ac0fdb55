"""Fine-tune the bundle on what people have labelled, as MONAI Label's clients ask for it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from brats_clip.cases import SEQUENCES, is_report_path

from ..errors import Busy, Refused
from ..models import ModelRegistry
from ..settings import Settings, Workspace
from .options import CURRENT, TrainOptions
from .progress import ProgressFile, is_running, read, stats
from .run import BUSY
from .snapshot import Snapshot
from .split import SIDES, TRAINING, VALIDATION, PatientSplit

logger = logging.getLogger(__name__)

_APP = Path(__file__).resolve().parents[2]
_TASK_PROCESS = "monailabel.interfaces.utils.app"


class FineTune(TrainTask):
    """MONAI Label's training task.

    The training runs in a process of its own, below this one: MONAI Label's stop kills both, and a server that is
    killed takes them along. What is left then can be resumed.

    Args:
        workspace: where labels lie, and trained weights go.
        models: versions of the weights; the one in use is trained on, unless the request names another.
        settings: of the app: bundle, device, and what the split goes by.
    """

    def __init__(self, workspace: Workspace, models: ModelRegistry, settings: Settings) -> None:
        super().__init__("Fine-tune the weights in use on all labels so far; publish them if they are better")
        self.workspace, self.models, self.settings = workspace, models, settings
        self.bundle = Path(settings.bundle) if settings.bundle else _APP.parent / "bundle"
        self.device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.split = PatientSplit(workspace.state / "split.json", settings.validation_share, settings.seed)
        self.snapshot = Snapshot(workspace.training / "run")

    def config(self) -> dict[str, Any]:
        """The options that clients show, with their defaults; a list is a choice."""
        options = TrainOptions.defaults(self.device).shown()
        # Some clients send the first choice back as it was when they last looked, so it must not be a version's name.
        return {**options, "start_from": [CURRENT, *(version.name for version in self.models.versions())]}

    def stats(self) -> dict[str, Any]:
        """Progress as clients show it; see ``progress.stats``."""
        return stats(self.workspace)

    def check(self, request: Mapping[str, Any], datastore: Datastore) -> None:
        """Raise what ``__call__`` would raise before it starts to train: a server can ask before it starts a process.

        Raises:
            Refused: for an option that cannot be used, or too few labelled patients.
            NotFound: for weights to start from that there are none of.
            Busy: if a training runs on this workspace.
        """
        self._job(request, datastore)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, and wait for the end.

        Args:
            request: options by name, see ``TrainOptions``.
            datastore: its ``datalist()`` gives labelled cases: ``case``, ``patient``, paths by sequence, ``label`` and,
                if any, ``report`` (path or text).

        Returns:
            As ``stats``.

        Raises:
            Refused, NotFound, Busy: as ``check``, or for a label or an image that cannot be used.
            RuntimeError: if the training failed otherwise; the log says how.
        """
        run = uuid4().hex
        try:
            job = self._job(request, datastore)
        except Busy:
            raise  # the progress file is that of the training that runs
        except Refused as refused:
            ProgressFile(self.workspace.training, run).update(status="refused", sentence=refused.sentence)
            raise
        ProgressFile(self.workspace.training, run).update()  # the process that trains takes seconds to begin
        status = self._execute({**job, "run": run})
        if status == BUSY:
            raise Busy("A training is running already; stop it, or wait for its end.")
        state = read(self.workspace.training) or {}
        if state.get("run") == run and state["status"] == "running":  # it could not say good-bye
            sentence = f"The training was ended from outside (status {status}), for lack of memory perhaps."
            state.update(status="failed", sentence=f"{sentence} Start again with resume to go on.")
            ended = ProgressFile(self.workspace.training, run)
            ended.state = state
            ended.update()
        if status != 0:
            raise RuntimeError(state.get("sentence") or f"The training ended with status {status}.")
        return self.stats()

    def _job(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """What the process that trains needs to know."""
        if is_running(self.workspace):
            raise Busy("A training is running already; stop it, or wait for its end.")
        options = TrainOptions.defaults(self.device).read(request)
        cases: dict[str, list] | None = None
        if options.resume and self.snapshot.resumable():
            begun = self.snapshot.options()
            options = replace(begun, max_epochs=begun.read(request).max_epochs, threads=options.threads, resume=True)
        else:
            if options.start_from != CURRENT:
                self.models.named(options.start_from)
            cases = self._sides(datastore)
        return {
            "parent": os.getpid(),
            "folder": str(self.workspace.training.absolute()),
            "models": str(self.models.folder.absolute()),
            "checkpoint": str(self.models.bundle_checkpoint.absolute()),
            "bundle": str(self.bundle.absolute()),
            "device": self.device,
            "options": asdict(options),
            "cases": cases,
        }

    def _sides(self, datastore: Datastore) -> dict[str, list]:
        """The labelled cases by side of the split.

        Raises:
            Refused: if a side is empty.
        """
        labelled = [_absolute(case) for case in datastore.datalist()]
        sides = self.split.assign(str(case.get("patient") or case["case"]) for case in labelled)
        patients = len({str(case.get("patient") or case["case"]) for case in labelled})
        cases: dict[str, list] = {side: [] for side in SIDES}
        for case in sorted(labelled, key=lambda case: str(case["case"])):
            if side := sides.get(str(case.get("patient") or case["case"])):
                cases[side].append(case)
        if patients < 2:
            so_far = "there is none" if patients == 0 else "there is one"
            raise Refused(
                "Training needs the labels of two patients at least, one to train on and one to validate with; "
                f"so far {so_far}. Label and submit {2 - patients} more."
            )
        for side, other in ((TRAINING, VALIDATION), (VALIDATION, TRAINING)):
            if not cases[side]:
                raise Refused(
                    f"All {patients} labelled patients are for {other}, which never changes, and none is for {side}. "
                    "Label and submit one more patient: it will be."
                )
        return cases

    def _execute(self, job: dict[str, Any]) -> int:
        """Run the process that trains; returns its exit status. It is ended when this one is left without a parent."""
        path = os.pathsep.join([str(_APP), str(self.bundle), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        environment = {**os.environ, "PYTHONPATH": path}
        if self.device == "cpu":
            environment["OMP_NUM_THREADS"] = str(job["options"]["threads"])
        command = [sys.executable, "-m", "lib.training.run"]
        # Python looks into the working folder first, and a "lib" may lie in anybody's.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, text=True, cwd=_APP)
        server = os.getppid()
        try:
            with suppress(BrokenPipeError):  # it ended at once; its status tells
                process.stdin.write(json.dumps(job))
                process.stdin.close()
            while process.poll() is None:
                if _is_task_process() and os.getppid() != server:
                    raise RuntimeError("The server is gone, and the training with it.")
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
        return process.returncode


def _absolute(case: Mapping[str, Any]) -> dict[str, Any]:
    """A case of the datastore with absolute paths."""
    paths = [key for key in (*SEQUENCES, "label") if case.get(key)]
    report = case.get("report") or ""
    if is_report_path(report):
        report = str(Path(report).absolute())
    return {**case, **{key: str(Path(case[key]).absolute()) for key in paths}, "report": report}


def _is_task_process() -> bool:
    """Whether this process is MONAI Label's for a task, and not the server or a script."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return getattr(spec, "name", "") == _TASK_PROCESS
