"""Tell the progress file what the engines of ``train.json`` are doing."""

from __future__ import annotations

import time

from ignite.engine import Engine, Events

from brats_clip.engines import CurveWriter

from .progress import ProgressFile, dice_of

_PAUSE_S = 1.0


class ReportProgress:
    """Writes what a trainer and its evaluator have done to the progress file.

    Attach to both, after all else has been: an epoch is reported when its checkpoint is saved.

    Args:
        file: the progress file.
        curves: ``train.json``'s own, for the rows of epochs that are done.
    """

    def __init__(self, file: ProgressFile, curves: CurveWriter) -> None:
        self.file, self.curves = file, curves
        self._written = 0.0

    def attach_trainer(self, trainer: Engine) -> None:
        """Report steps and epochs."""
        trainer.add_event_handler(Events.STARTED, self._epoch_done)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_done)

    def attach_evaluator(self, evaluator: Engine) -> None:
        """Report validations."""
        evaluator.add_event_handler(Events.STARTED, self._validation_begins)
        evaluator.add_event_handler(Events.COMPLETED, self._validated)

    def rows(self) -> list[dict]:
        """Loss and Dice of each epoch that is done."""
        return [{"epoch": row["epoch"], "loss": row["loss"], "dice": dice_of(row)} for row in self.curves.rows]

    def _step(self, trainer: Engine) -> None:
        if time.monotonic() - self._written < _PAUSE_S:
            return
        self._written = time.monotonic()
        length = trainer.state.epoch_length
        done = trainer.state.iteration - (trainer.state.epoch - 1) * length
        loss = trainer.state.output[0]["loss"] if trainer.state.output else None
        self.file.update(stage="training", iteration=done, iterations=length, loss=_rounded(loss))

    def _epoch_done(self, trainer: Engine) -> None:
        rows = self.rows()
        last = rows[-1]["loss"] if rows else None
        self.file.update(stage="training", epoch=trainer.state.epoch, epochs=rows, loss=last, best=best_of(rows))

    def _validation_begins(self, evaluator: Engine) -> None:
        self.file.update(stage="validating")

    def _validated(self, evaluator: Engine) -> None:
        self.file.update(dice=dice_of(evaluator.state.metrics))


def best_of(rows: list[dict]) -> dict | None:
    """Epoch and Dice of the first row with the highest mean Dice; None where none has any."""
    scored = [row for row in rows if row["dice"]["mean"] is not None]
    best = max(scored, key=lambda row: row["dice"]["mean"], default=None)
    return best and {"epoch": best["epoch"], **best["dice"]}


def _rounded(loss) -> float | None:
    return None if loss is None else round(float(loss), 5)
