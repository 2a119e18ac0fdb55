"""Training curves in a CSV file that survives a restart."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import from_engine

from ..images import atomic_write


class CurveWriter:
    """Write ``epoch``, mean ``loss``, ``learning_rate`` and the validation metrics of each epoch to a CSV file.

    Attach to the trainer, after its validation handler, and to the evaluator.

    Args:
        path: the CSV file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.rows: list[dict] = []
        self._losses: list[float] = []
        self._metrics: dict = {}

    def attach(self, engine: Engine) -> None:
        if isinstance(engine, Evaluator):
            engine.add_event_handler(Events.COMPLETED, self._note_metrics)
            return
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note_loss)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _note_loss(self, engine: Engine) -> None:
        self._losses.append(float(from_engine("loss", first=True)(engine.state.output)))

    def _note_metrics(self, engine: Engine) -> None:
        self._metrics = {k: round(float(v), 5) for k, v in engine.state.metrics.items()}

    def _write(self, engine: Engine) -> None:
        row = {
            "epoch": engine.state.epoch,
            "loss": round(sum(self._losses) / max(1, len(self._losses)), 6),
            "learning_rate": engine.optimizer.param_groups[0]["lr"],
            **self._metrics,
        }
        self._losses, self._metrics = [], {}
        self.rows = [r for r in self.rows if r["epoch"] < row["epoch"]] + [row]
        if idist.get_rank() != 0:
            return
        columns = list(dict.fromkeys(k for r in self.rows for k in r))
        with atomic_write(self.path) as draft, draft.open("w", newline="") as f:
            table = csv.DictWriter(f, columns)
            table.writeheader()
            table.writerows(self.rows)

    def state_dict(self) -> dict:
        return {"rows": self.rows}

    def load_state_dict(self, state: Mapping) -> None:
        self.rows = list(state["rows"])


def read_curves(path: str | Path) -> dict[str, list[float | None]] | None:
    """Read a file of :class:`CurveWriter`, one list per column; None if the file is missing."""
    if not Path(path).is_file():
        return None
    with Path(path).open(newline="") as f:
        rows = list(csv.DictReader(f))
    return {k: [float(r[k]) if r[k] else None for r in rows] for k in (rows[0] if rows else {})}
