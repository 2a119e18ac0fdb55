"""Checkpoints that survive a kill: each is written beside its place and moved there when complete."""

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
        WeightsError: if the file is missing, or is no file of weights.
    """
    expected = "a state dict, as training writes it to checkpoints/model.pt"
    if not Path(path).is_file():
        raise WeightsError(path, "no file", expected)
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as reason:  # torch raises all kinds of errors for a torn or foreign file
        raise WeightsError(path, f"a file that torch cannot load ({_first_line(reason)})", expected) from None
    if not isinstance(content, dict):
        raise WeightsError(path, f"a {type(content).__name__}", expected)
    return content


class LoadWeights:
    """Load weights into a network before the engine starts, strictly: a checkpoint of another network is an error.

    MONAI's CheckpointLoader skips keys that do not fit, and the network would answer with what it was initialised to.

    Args:
        path: a file with the network's state dict.
        network: which to load.
        only_fresh: leave the network alone when the engine goes on from an epoch, as a resumed training does.
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
    """Save all that a training needs to go on, after each ``interval`` epochs.

    MONAI's CheckpointSaver writes in place, so a kill while it saves would leave a torn last checkpoint.

    Args:
        folder: where checkpoints go; made if missing.
        objects: what to save and restore, each with ``state_dict``; the trainer is added.
        interval: epochs between checkpoints.
        keep: how many of the last ones stay.
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
        """Ignite's own count forgets what was saved before a restart."""
        if idist.get_rank() == 0:
            for path in self._found()[: -self.keep]:
                path.unlink()

    def _found(self) -> list[Path]:
        """The checkpoints, oldest first."""
        found = {p: re.fullmatch(r"checkpoint_epoch=(\d+)\.pt", p.name) for p in self.folder.glob("checkpoint_*.pt")}
        return sorted((p for p, name in found.items() if name), key=lambda p: int(found[p][1]))

    def latest(self) -> Path | None:
        """The checkpoint of the last epoch, None if there is none."""
        return (self._found() or [None])[-1]

    def resume(self, engine: Engine) -> bool:
        """Restore everything from the last checkpoint; False if there is none.

        ``max_epochs`` stays as configured: a longer training goes on with the learning rates it would have had from
        the start, and a training that is complete trains nothing.
        """
        path = self.latest()
        if path is None:
            return False
        epochs = engine.state.max_epochs
        expected = "a checkpoint of this network; use another output_dir, or --resume False"
        try:
            content = torch.load(path, map_location="cpu", weights_only=False)
        except Exception as reason:  # as above
            raise WeightsError(path, f"a file that torch cannot load ({_first_line(reason)})", expected) from None
        schedules = {k: v for k, v in self.objects.items() if isinstance(v, LRScheduler)}
        if content["trainer"]["max_epochs"] == epochs:
            schedules = {}
        restored = {k: v for k, v in self.objects.items() if k not in schedules}
        try:
            Checkpoint.load_objects({**restored, "trainer": engine}, content)
        except (RuntimeError, ValueError, KeyError) as reason:
            raise WeightsError(path, f"what does not fit ({_first_line(reason)})", expected) from reason
        for name, schedule in schedules.items():
            _replay(schedule, content[name]["last_epoch"])
        engine.state.max_epochs = max(epochs, engine.state.epoch)
        logger.info("resumed from %s (epoch %d of %d)", path, engine.state.epoch, epochs)
        if engine.state.epoch >= epochs:
            logger.warning("%s: all %d epochs are trained; ask for more of them, or for another folder.", path, epochs)
            engine.add_event_handler(Events.STARTED, Engine.terminate)  # ignite would begin again at epoch 0
        return True


def _replay(schedule: LRScheduler, steps: int) -> None:
    """Bring a schedule that is not the checkpoint's to the step that the checkpoint is at."""
    for group, rate in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
        group["lr"] = rate
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch looks for an optimiser step before each of these
        for _ in range(steps):
            schedule.step()


class BestModel:
    """Keep the weights of the best validation as ``folder/filename``: a plain state dict, ready to ship.

    Attach to the evaluator, and set the trainer: without any validation the last weights are kept.

    Args:
        folder: where the weights go; made if missing.
        model: whose weights.
        metric: key metric that decides, the higher the better.
        filename: the file's name.
    """

    def __init__(self, folder: str, model: torch.nn.Module, metric: str, filename: str = "model.pt") -> None:
        self.model, self.metric, self.filename = model, metric, filename
        self.best = float("-inf")
        self._save = DiskSaver(folder, create_dir=True, require_empty=False, atomic=True)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, self)

    def set_trainer(self, trainer: Engine) -> None:
        """Have a training that was never validated leave its last weights."""
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
        """The best score, so that a resumed training does not replace a better model by a worse one."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping) -> None:
        self.best = state["best"]


def _first_line(reason: Exception) -> str:
    return (str(reason).splitlines() or [type(reason).__name__])[0][:120]
