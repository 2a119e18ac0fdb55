"""Handlers for the trainer and its evaluator: early stopping, epoch seeds, gradient clipping, weight averaging."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from monai.data.utils import set_rnd
from monai.engines.utils import IterationEvents
from monai.handlers import EarlyStopHandler
from torch import Tensor

from ..labels import REGIONS


class EarlyStop(EarlyStopHandler):
    """Stop the trainer after ``patience`` validations without an improvement of ``metric``.

    MONAI's handler with a saved state, so that resumed training continues the count. Attach to the evaluator, and call
    ``set_trainer`` before the run.

    Args:
        patience: number of validations to wait.
        metric: name of the evaluator's metric; higher is better.
    """

    def __init__(self, patience: int, metric: str) -> None:
        super().__init__(patience, score_function=lambda engine: float(engine.state.metrics[metric]))
        self._restored: Mapping | None = None

    def set_trainer(self, trainer: Engine) -> None:
        super().set_trainer(trainer)
        if self._restored:
            self._handler.load_state_dict(self._restored)
        trainer.add_event_handler(Events.STARTED, self._stop_again)

    def _stop_again(self, trainer: Engine) -> None:
        if self._handler.counter >= self.patience:
            trainer.terminate()

    def state_dict(self) -> dict:
        return {} if self._handler is None else dict(self._handler.state_dict())

    def load_state_dict(self, state: Mapping) -> None:
        self._restored = state
        if state and self._handler is not None:
            self._handler.load_state_dict(state)


class EpochSeed:
    """Seed Python, NumPy, torch and the random transforms at the start of each epoch.

    Data-loader workers take their seeds from torch's generator when the epoch's iterator is created, right after this.

    Args:
        seed: seed of the training; each epoch and each rank derives its own seed from it.
        dataset: dataset whose random transforms are seeded, for loaders without workers.
        rank: rank of this process.
        annotator: ``ClickRounds``, if clicks are trained.
    """

    def __init__(self, seed: int, dataset, rank: int = 0, annotator=None) -> None:
        self.seed, self.dataset, self.annotator, self.rank = seed, dataset, annotator, rank

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        seed = int(np.random.SeedSequence([self.seed, engine.state.epoch, self.rank]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        set_rnd(self.dataset, seed)
        if self.annotator is not None:
            self.annotator.set_random_state(seed)


class GradientClip:
    """Limit the norm of the gradients before each optimiser step.

    Args:
        max_norm: the limit.
    """

    def __init__(self, max_norm: float = 12.0) -> None:
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self.max_norm)


class TakeLogits:
    """Replace the network's training output with its full-size logits after the loss is computed."""

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        prediction = engine.state.output["pred"]
        logits = prediction if isinstance(prediction, Tensor) else prediction.logits
        engine.state.output["pred"] = logits.detach()


class WeightAverage(EMAHandler):
    """ignite's ``EMAHandler`` with two gaps closed: pretrained weights and restarts.

    ignite copies the network when the handler is created, before pretrained weights are loaded, and restarts the
    warm-up of the momentum after a restart.
    """

    def attach(self, engine: Engine, *args, **kwargs) -> None:
        super().attach(engine, *args, **kwargs)
        engine.add_event_handler(Events.EPOCH_STARTED, self._catch_up)

    @torch.no_grad()
    def _catch_up(self, engine: Engine) -> None:
        if self.momentum_scheduler is not None:
            self.momentum_scheduler.event_index = engine.state.iteration
        if engine.state.iteration == 0:
            for average, current in zip(self.ema_model.parameters(), self.model.parameters(), strict=True):
                average.copy_(current)


def shared_handler(handler):
    """Return ``handler`` unchanged.

    ``ConfigWorkflow.check_properties`` reads the ``_target_`` of every entry of the trainer's handlers, so a plain
    reference such as ``"@ema"`` fails there.
    """
    return handler


def region_output(region: str) -> Callable[[Sequence[dict]], tuple[list, list]]:
    """Return an ``output_transform`` for ignite metrics that selects ``region`` of ``pred`` and ``label``."""
    index = list(REGIONS).index(region)

    def transform(output: Sequence[dict]) -> tuple[list, list]:
        return [o["pred"][index : index + 1] for o in output], [o["label"][index : index + 1] for o in output]

    return transform
