"""Exponential moving average of the weights, started from what the training starts from."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler


class WeightAverage(EMAHandler):
    """ignite's ``EMAHandler`` with two gaps closed: pretrained weights and restarts.

    ignite copies the network when the handler is made, before pretrained weights are loaded, and counts the warm-up
    of the momentum from zero again after a restart.
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
