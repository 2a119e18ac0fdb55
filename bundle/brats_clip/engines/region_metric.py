"""Read one region of an engine's output, for a metric of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..labels import REGIONS


def region_output(region: str) -> Callable[[Sequence[dict]], tuple[list, list]]:
    """Return an ``output_transform`` for ignite metrics: ``pred`` and ``label`` of ``region`` (WT, TC or ET)."""
    index = list(REGIONS).index(region)

    def transform(output: Sequence[dict]) -> tuple[list, list]:
        return [o["pred"][index : index + 1] for o in output], [o["label"][index : index + 1] for o in output]

    return transform
