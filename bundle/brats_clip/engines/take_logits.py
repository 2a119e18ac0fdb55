"""Between the loss, which needs all that the network returned, and the metrics, which need the logits."""

from __future__ import annotations

from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import Tensor


class TakeLogits:
    """Replace the network's training output by its full-size logits once the loss has seen it."""

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        prediction = engine.state.output["pred"]
        logits = prediction if isinstance(prediction, Tensor) else prediction.logits
        engine.state.output["pred"] = logits.detach()
