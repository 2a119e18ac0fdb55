"""MONAI Label's training task: fine-tune the weights on the submitted labels."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import torch
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from brats_clip.cases import SEQUENCES
from brats_clip.engines import plain_message

from ..errors import Busy, ClientError, Refused
from ..exit_with_parent import exit_with_parent
from ..models import ModelRegistry
from ..open_store import open_store
from ..settings import Settings, Workspace
from . import CURRENT, TrainOptions
from .progress import BUSY, ProgressFile, is_running, read, stats
from .split import SIDES, TRAINING, VALIDATION, PatientSplit

logger = logging.getLogger(__name__)

_APP = Path(__file__).resolve().parents[2]


class FineTune(TrainTask):
    """MONAI Label's training task.

    The training runs in a child process of this one. Both end if MONAI Label stops the training or the server is
    killed. The training can be resumed then.
    """

    def __init__(self, workspace: Workspace, models: ModelRegistry, settings: Settings) -> None:
        super().__init__("Fine-tune the weights in use on all labels so far; publish them if they are better")
        self.workspace, self.models, self.settings = workspace, models, settings
        self.bundle = Path(settings.bundle) if settings.bundle else _APP.parent / "bundle"
        self.device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.split = PatientSplit(open_store(workspace), settings.validation_share, settings.seed)

    def config(self) -> dict[str, Any]:
        """Return the options that clients show, with their defaults; a list is a choice."""
        options = TrainOptions.defaults(self.device).shown()
        # Some clients send back the first choice of an outdated list, so it must not be the name of a version.
        return {**options, "start_from": [CURRENT, *(version.name for version in self.models.versions())]}

    def stats(self) -> dict[str, Any]:
        """Return the progress as clients show it; see ``progress.stats``."""
        return stats(self.workspace)

    def check(self, request: Mapping[str, Any], datastore: Datastore) -> None:
        """Raise the errors that ``__call__`` would raise at once, without starting a process or reading an image.

        Raises:
            Refused: for an option that cannot be used, or too few labelled patients.
            NotFound: if the weights to start from do not exist.
            Busy: if a training is running on this workspace.
        """
        self._options(request)
        patients = datastore.labelled_patients().values()
        self._both_sides(set(map(str, patients)), self.split.preview(map(str, patients)), [])

    def announce(self, run: str, pid: int) -> None:
        """Make ``progress`` report a training that was just started, instead of the previous one.

        Args:
            run: id of the training, as in the request.
            pid: of its process, which needs seconds to import its packages before it can report itself.
        """
        with suppress(psutil.NoSuchProcess):  # it has ended: it has reported itself, or never will
            ProgressFile(self.workspace.training, run, pid).update(stage="starting")

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, and wait until the training ends.

        Args:
            request: options by name, see ``TrainOptions``; from the app's server also ``run``, the id of this
                training, and ``server_pid``, the parent process that this one must not outlive.
            datastore: its ``labelled_cases()`` returns ``case``, ``patient``, paths by sequence, ``label`` and, if any,
                ``report`` or ``report_path`` of each case, and the cases that are left out.

        Returns:
            As ``stats``.

        Raises:
            Refused, NotFound, Busy: as ``check``, or for a label or an image that cannot be used.
            RuntimeError: if the training failed otherwise; the log has the error.
        """
        if request.get("server_pid"):
            exit_with_parent(int(request["server_pid"]))
        run = str(request.get("run") or uuid4().hex)
        self._not_busy(run)  # otherwise this would overwrite the progress file of a running training
        file = ProgressFile(self.workspace.training, run)
        file.update()
        try:
            job = self._job(request, datastore, file)
        except ClientError as refused:
            file.update(status="refused", sentence=refused.sentence)
            raise
        except Exception as error:
            reason = plain_message(error) or "see the log of the server."
            file.update(status="failed", sentence=f"The training failed: {reason}")
            raise
        status = self._execute(job)
        if status == BUSY:
            raise Busy("A training is running already; stop it, or wait for its end.")
        state = read(self.workspace.training) or {}
        if state.get("run") == run and state["status"] == "running":  # it was killed
            sentence = f"The training process was killed (status {status}), perhaps for lack of memory."
            state.update(status="failed", sentence=f"{sentence} Start again to resume.")
            file.state = state
            file.update()
        if status != 0:
            raise RuntimeError(state.get("sentence") or f"The training ended with status {status}.")
        return self.stats()

    def _not_busy(self, run: str = "") -> None:
        if is_running(self.workspace, but=run):
            raise Busy("A training is running already; stop it, or wait for its end.")

    def _options(self, request: Mapping[str, Any], run: str = "") -> TrainOptions:
        """Return the requested options; raise if a training cannot be started with them."""
        self._not_busy(run)
        options = TrainOptions.defaults(self.device).read(request)
        if options.start_from != CURRENT:
            self.models.named(options.start_from)
        return options

    def _job(self, request: Mapping[str, Any], datastore: Datastore, file: ProgressFile) -> dict[str, Any]:
        """Return the input of the training process."""
        options = self._options(request, file.state["run"])
        labelled, left_out = datastore.labelled_cases()
        file.update(left_out=left_out)
        return {
            "run": file.state["run"],
            "parent": os.getpid(),
            "folder": str(self.workspace.training.absolute()),
            "models": str(self.models.folder.absolute()),
            "store": str(self.workspace.store.absolute()),
            "checkpoint": str(self.models.bundle_checkpoint.absolute()),
            "bundle": str(self.bundle.absolute()),
            "device": self.device,
            "options": options.model_dump(),
            "cases": self._sides(labelled, left_out),
            "phantoms": str(Path(self.settings.phantoms).absolute()) if self.settings.phantoms else "",
            "left_out": left_out,
        }

    def _sides(self, labelled: Sequence[Mapping], left_out: Sequence[Mapping]) -> dict[str, list]:
        """Return the labelled cases by side of the split.

        Raises:
            Refused: if a side is empty.
        """
        sides = self.split.assign(map(_patient, labelled))
        self._both_sides(set(map(_patient, labelled)), sides, left_out)
        cases = sorted(map(_absolute, labelled), key=lambda case: str(case["case"]))
        return {side: [case for case in cases if sides[_patient(case)] == side] for side in SIDES}

    def _both_sides(self, patients: set[str], sides: Mapping[str, str], left_out: Sequence[Mapping]) -> None:
        """Raise ``Refused`` unless there are patients to train on and to validate with."""
        unread = "".join(f" Case {case['case']} is labelled and left out: {case['reason']}" for case in left_out)
        if len(patients) < 2:
            so_far = "there is none" if not patients else "there is one"
            raise Refused(
                "Training needs the labels of two patients at least, one to train on and one to validate with; "
                f"so far {so_far}. Label and submit {2 - len(patients)} more.{unread}"
            )
        for side, other in ((TRAINING, VALIDATION), (VALIDATION, TRAINING)):
            if side not in sides.values():
                raise Refused(
                    f"All {len(patients)} labelled patients are for {other}, which never changes, and none is for "
                    f"{side}. Label and submit one more patient: it will be.{unread}"
                )

    def _execute(self, job: dict[str, Any]) -> int:
        """Run the training process and return its exit status; kill it if this process stops waiting for it."""
        path = os.pathsep.join([str(_APP), str(self.bundle), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        environment = {**os.environ, "PYTHONPATH": path}
        if self.device == "cpu":
            environment["OMP_NUM_THREADS"] = str(job["options"]["threads"])
        command = [sys.executable, "-m", "brats_label.training.run"]
        # Python searches the working directory first, which might have a package of the same name.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, text=True, cwd=_APP)
        try:
            with suppress(BrokenPipeError):  # the process ended at once; its status says why
                process.stdin.write(json.dumps(job))
                process.stdin.close()
            process.wait()
        finally:
            process.kill()
            process.wait()
        return process.returncode


def _patient(case: Mapping[str, Any]) -> str:
    return str(case.get("patient") or case["case"])


def _absolute(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return a case of the datastore with absolute paths."""
    paths = [key for key in (*SEQUENCES, "label", "report_path") if case.get(key)]
    return {**case, **{key: str(Path(case[key]).absolute()) for key in paths}}
