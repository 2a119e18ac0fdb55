"""Plotting helpers of the measuring scripts: colours on white, and saving as PNG and SVG."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..images import atomic_write

# The colours of the evaluation page on white; "mean" is over the three regions.
COLOURS = {"WT": "#0072b2", "TC": "#b57f00", "ET": "#c8420a", "mean": "#1b2430"}
RULE, SOFT = "#d9dee5", "#5c6775"


def new_figure(width: float, height: float) -> Figure:
    """Create a figure of ``width`` x ``height`` inches that needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes, title: str, grid: str) -> None:
    """Set the title of axes, draw grid lines along ``grid`` ("x", "y" or "both"), and hide the top and right border."""
    axes.set_title(title, fontsize=10)
    axes.grid(axis=grid, color=RULE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def save_figure(figure: Figure, stem: str | PathLike) -> None:
    """Write ``STEM.png`` and ``STEM.svg``, each atomically."""
    for ending, metadata in (("png", None), ("svg", {"Date": None})):
        path = Path(stem)
        with atomic_write(path.with_name(f"{path.name}.{ending}")) as draft:
            figure.savefig(draft, dpi=120, metadata=metadata)
