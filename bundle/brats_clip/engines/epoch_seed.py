"""Randomness that depends on the epoch alone, so that a resumed training draws what the unbroken one would have."""

from __future__ import annotations

import random

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd


class EpochSeed:
    """Seed Python, NumPy, torch and the random transforms at the start of each epoch.

    Data-loader workers take their seeds from torch's generator when the epoch's iterator is made, right after this.

    Args:
        seed: of the training; each epoch and each rank gets its own from it.
        dataset: whose random transforms are seeded for loaders without workers.
        rank: of this process.
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
