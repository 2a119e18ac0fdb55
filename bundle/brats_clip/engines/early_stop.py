"""Early stopping that a restart does not forget."""

from __future__ import annotations

from collections.abc import Mapping

from ignite.engine import Engine, Events
from monai.handlers import EarlyStopHandler


class EarlyStop(EarlyStopHandler):
    """Stop the trainer after ``patience`` validations without a better ``metric``.

    MONAI's handler with a state, so that a resumed training goes on counting. Attach to the evaluator, and call
    ``set_trainer`` before the run.

    Args:
        patience: validations to wait.
        metric: the evaluator's metric, the higher the better.
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
