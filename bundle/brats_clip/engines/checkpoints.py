"""Checkpoints that survive a kill: each is written to a temporary file and renamed when complete."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from torch.optim.lr_scheduler import LRScheduler

from ..errors import WeightsError

logger = logging.getLogger(__name__)


def load_weights(path: str | Path, device: str | torch.device = "cpu") -> dict:
    """Read a state dict.

    Raises:
        WeightsError: if the file is missing, or is not a weights file.
    """
    expected = "a state dict, as training writes it to checkpoints/model.pt"
    if not Path(path).is_file():
        raise WeightsError(path, "no file", expected)
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as reason:  # torch raises all kinds of errors for a truncated or foreign file
        raise WeightsError(path, f"a file that torch cannot load ({_first_line(reason)})", expected) from None
    if not isinstance(content, dict):
        raise WeightsError(path, f"a {type(content).__name__}", expected)
    return content


class LoadWeights:
    """Load weights into a network before the engine starts, strictly: weights of another network are an error.

    MONAI's CheckpointLoader skips keys that do not match, which leaves those weights at their initial values.

    Args:
        path: a file with the network's state dict.
        network: the network to load the weights into.
        only_fresh: load nothing if the engine continues from an epoch, as resumed training does.
    """

    def __init__(self, path: str, network: torch.nn.Module, only_fresh: bool = False) -> None:
        self.path, self.network, self.only_fresh = path, network, only_fresh

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if self.only_fresh and engine.state.epoch > 0:
            return
        target = getattr(self.network, "module", self.network)
        try:
            target.load_state_dict(load_weights(self.path))
        except WeightsError as error:
            raise WeightsError(self.path, error.found, error.expected) from None


class EpochCheckpoint:
    """Save everything that is needed to resume training, every ``interval`` epochs.

    MONAI's CheckpointSaver writes in place, so a kill during saving would leave a truncated last checkpoint.

    Args:
        folder: folder of the checkpoints; created if missing.
        objects: objects to save and restore, each with ``state_dict``; the trainer is added.
        interval: epochs between checkpoints.
        keep: number of latest checkpoints to keep.
    """

    def __init__(self, folder: str, objects: Mapping, interval: int = 1, keep: int = 2) -> None:
        self.folder, self.objects = Path(folder), dict(objects)
        self.interval, self.keep = interval, keep

    def attach(self, engine: Engine) -> None:
        save = Checkpoint(
            {**self.objects, "trainer": engine},
            DiskSaver(str(self.folder), create_dir=True, require_empty=False, atomic=True),
            n_saved=None,
            filename_pattern="checkpoint_epoch={global_step}.pt",
            global_step_transform=lambda engine, _: engine.state.epoch,
        )
        after = Events.EPOCH_COMPLETED(every=self.interval)
        engine.add_event_handler(after, save)
        engine.add_event_handler(after, self._drop_old)

    def _drop_old(self, engine: Engine) -> None:
        """Delete old checkpoints; ignite's own limit does not count those from before a restart."""
        if idist.get_rank() == 0:
            for path in self._found()[: -self.keep]:
                path.unlink()

    def _found(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        found = {p: re.fullmatch(r"checkpoint_epoch=(\d+)\.pt", p.name) for p in self.folder.glob("checkpoint_*.pt")}
        return sorted((p for p, name in found.items() if name), key=lambda p: int(found[p][1]))

    def latest(self) -> Path | None:
        """Return the checkpoint of the last epoch; None if there is none."""
        return (self._found() or [None])[-1]

    def resume(self, engine: Engine) -> bool:
        """Restore everything from the last checkpoint; return False if there is none.

        ``max_epochs`` stays as configured: if it was increased, training continues with the learning rates of a run
        that had this length from the start. Training that is complete is not continued.
        """
        path = self.latest()
        if path is None:
            return False
        epochs = engine.state.max_epochs
        expected = "a checkpoint of this network; use another output_dir, or --resume False"
        try:
            content = torch.load(path, map_location="cpu", weights_only=False)
        except Exception as reason:  # as in load_weights
            raise WeightsError(path, f"a file that torch cannot load ({_first_line(reason)})", expected) from None
        schedules = {k: v for k, v in self.objects.items() if isinstance(v, LRScheduler)}
        if content["trainer"]["max_epochs"] == epochs:
            schedules = {}
        restored = {k: v for k, v in self.objects.items() if k not in schedules}
        try:
            Checkpoint.load_objects({**restored, "trainer": engine}, content)
        except (RuntimeError, ValueError, KeyError) as reason:
            raise WeightsError(path, f"contents that do not match ({_first_line(reason)})", expected) from reason
        for name, schedule in schedules.items():
            _replay(schedule, content[name]["last_epoch"])
        engine.state.max_epochs = max(epochs, engine.state.epoch)
        logger.info("resumed from %s (epoch %d of %d)", path, engine.state.epoch, epochs)
        if engine.state.epoch >= epochs:
            logger.warning("%s: all %d epochs are trained; set more epochs, or another output folder.", path, epochs)
            engine.add_event_handler(Events.STARTED, Engine.terminate)  # ignite would start again at epoch 0
        return True


def _replay(schedule: LRScheduler, steps: int) -> None:
    """Advance a schedule that differs from the checkpoint's to the step of the checkpoint."""
    for group, rate in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
        group["lr"] = rate
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch expects an optimiser step before each of these
        for _ in range(steps):
            schedule.step()


class BestModel:
    """Keep the weights of the best validation as ``folder/filename``: a plain state dict, ready for release.

    Attach to the evaluator, and call ``set_trainer``: without any validation, the last weights are kept.

    Args:
        folder: folder of the weights; created if missing.
        model: network whose weights are saved.
        metric: name of the metric to compare; higher is better.
        filename: name of the weights file.
    """

    def __init__(self, folder: str, model: torch.nn.Module, metric: str, filename: str = "model.pt") -> None:
        self.model, self.metric, self.filename = model, metric, filename
        self.best = float("-inf")
        self._save = DiskSaver(folder, create_dir=True, require_empty=False, atomic=True)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, self)

    def set_trainer(self, trainer: Engine) -> None:
        """Save the last weights when training ends without any validation."""
        trainer.add_event_handler(Events.COMPLETED, self._keep_last)

    def _keep_last(self) -> None:
        if self.best == float("-inf"):
            self._save(self.model.state_dict(), self.filename)

    def __call__(self, engine: Engine) -> None:
        score = float(engine.state.metrics[self.metric])
        if score > self.best:
            self.best = score
            self._save(self.model.state_dict(), self.filename)

    def state_dict(self) -> dict:
        """Return the best score, so that resumed training does not replace a better model with a worse one."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping) -> None:
        self.best = state["best"]


def _first_line(reason: Exception) -> str:
    return (str(reason).splitlines() or [type(reason).__name__])[0][:120]
