"""The charts of the report page, as SVG that follows the page's light or dark colours and links to its cases."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..labels import REGIONS
from .plots import COLOURS, RULE, SOFT, plain
from .summary import Row

# The CSS variables of report.css for the colours that matplotlib draws with.
_VARIABLES = {COLOURS[region]: f"var(--{region.lower()})" for region in REGIONS}
_VARIABLES |= {COLOURS["mean"]: "var(--ink)", SOFT: "var(--soft)", RULE: "var(--rule)", "#ffffff": "var(--paper)"}
_SMALLEST_ML = 0.01
_GOLDEN = (math.sqrt(5) - 1) / 2
_DOT = {"s": 40, "alpha": 0.75, "linewidths": 0.6, "edgecolors": "#ffffff", "clip_on": False, "zorder": 3}


def dice_strips(rows: Sequence[Row]) -> str:
    """Draw a box plot with dots of Dice, one row per region; whiskers reach 1.5 interquartile ranges at most."""
    figure, axes = _figure(560, 240, "x")
    titles = []
    for number, (region, colour) in enumerate((region, COLOURS[region]) for region in REGIONS):
        ranked = sorted((row[f"dice_{region}"], str(row["case"])) for row in rows)
        values = [value for value, _ in ranked]
        line = {"color": colour, "linewidth": 1.4}
        axes.boxplot(values, positions=[number], orientation="horizontal", widths=0.6, showfliers=False, showcaps=False,
                     patch_artist=True, boxprops={"facecolor": (colour, 0.16), "edgecolor": colour, "linewidth": 1.4},
                     whiskerprops=line, medianprops={"color": colour, "linewidth": 3})  # fmt: skip
        # The golden ratio spreads neighbours in rank over the height, reproducibly.
        heights = [number + 0.5 * ((i * _GOLDEN) % 1 - 0.5) for i in range(len(values))]
        axes.scatter(values, heights, color=colour, urls=[_link(case) for _, case in ranked], **_DOT)
        titles += [f"{case}: {region} {value:.3f}" for value, case in ranked]
    axes.spines["left"].set_visible(False)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(REGIONS) - 0.5, -0.5)
    axes.set_yticks(range(len(REGIONS)), list(REGIONS), weight="bold", color=COLOURS["mean"])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Dice")
    return _svg(figure, "Dice per region", titles)


def volume_scatter(rows: Sequence[Row]) -> str:
    """Plot predicted against true volume of each region, on logarithmic axes in ml; 0 is drawn at the lower limit."""
    figure, axes = _figure(310, 310, "both")
    titles, largest = [], 10 * _SMALLEST_ML
    for region in REGIONS:
        pairs = [(str(row["case"]), row[f"volume_ml_{region}_truth"], row[f"volume_ml_{region}"]) for row in rows]
        pairs = [(case, truth, found) for case, truth, found in pairs if truth or found]
        places = np.maximum([(truth, found) for _, truth, found in pairs] or np.empty((0, 2)), _SMALLEST_ML)
        largest = max([largest, *places.ravel()])
        axes.scatter(*places.T, color=COLOURS[region], urls=[_link(case) for case, *_ in pairs], **_DOT)
        titles += [f"{case}: {region} {found:.2f} ml predicted, {truth:.2f} ml true" for case, truth, found in pairs]
    low, high = round(math.log10(_SMALLEST_ML)), math.ceil(math.log10(largest))
    ends = (_SMALLEST_ML, 10.0**high)
    ticks = [10.0**power for power in range(low, high + 1)]
    axes.plot(ends, ends, color=SOFT, linewidth=1)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(matplotlib.ticker.NullLocator())
        axis.set_ticks(ticks, ["0", *(f"{tick:g}" for tick in ticks[1:])])
    axes.set(xlabel="true volume, ml", ylabel="predicted, ml")
    return _svg(figure, "Predicted against true volume", titles)


def curve_panels(curves: Mapping[str, Sequence[float | None]]) -> list[str]:
    """Plot training curves: one panel for the columns with "loss" in their name, one for those with "dice".

    Args:
        curves: ``epoch`` and any number of columns of the same length; ``None`` where there is no value. Columns of
            another scale, such as the learning rate, are left out.
    """
    panels = [{k: v for k, v in curves.items() if kind in k.lower()} for kind in ("loss", "dice")]
    return [_panel(curves["epoch"], columns) for columns in panels if columns and len(curves["epoch"])]


def _panel(epochs: Sequence[float], columns: Mapping[str, Sequence[float | None]]) -> str:
    figure, axes = _figure(460, 280, "y")
    dashes = iter(("-", "--", ":", "-."))
    for name, column in columns.items():
        region = next((r for r in REGIONS if name.endswith(r)), None)
        style = {"color": COLOURS[region or "mean"], "linestyle": "-" if region else next(dashes, "-")}
        values = np.array(column, dtype=float)
        known = np.isfinite(values)
        last = f"{values[known][-1]:.3f}" if known.any() else "\N{EN DASH}"
        style |= {"label": f"{name} (last {last})".replace("$", r"\$"), "gid": "curve", "linewidth": 1.8}
        style |= {"marker": "o", "markersize": 3} if known.sum() < 2 else {}
        axes.plot(np.asarray(epochs, float)[known], values[known], **style)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=11, labelcolor=SOFT)
    return _svg(figure, "Training curves", [])


def _figure(width: int, height: int, grid: str) -> tuple[Figure, Axes]:
    """Create a figure of ``width`` x ``height`` SVG units."""
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    axes = figure.subplots()
    plain(axes, "", grid)
    axes.tick_params(labelsize=11, color=RULE, labelcolor=SOFT)
    for part in (axes.xaxis.label, axes.yaxis.label):
        part.set(fontsize=12, color=SOFT)
    axes.spines[:].set_color(RULE)
    return figure, axes


def _link(case: str) -> str:
    return f"#case-{quote(case)}"


def _svg(figure: Figure, name: str, titles: Sequence[str]) -> str:
    """Return the figure as an SVG element with the page's fonts and colours, and a title for each dot, in order."""
    buffer = io.StringIO()
    # The salt makes the output reproducible, with ids that differ between figures.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True)
    root = ElementTree.fromstring(buffer.getvalue())
    root.remove(next(child for child in root if child.tag.endswith("metadata")))
    for element in root.iter():
        # Inline SVG needs no namespace, whose URL would look like an external resource. Nothing is clipped.
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {k.rpartition("}")[2]: v for k, v in element.attrib.items() if k != "clip-path"}
    for link, title in zip(root.iter("a"), titles, strict=True):
        ElementTree.SubElement(link, "title").text = title
    for element in root.iter():
        if style := element.get("style"):
            for colour, variable in _VARIABLES.items():
                style = style.replace(colour, variable)
            element.set("style", re.sub(r"font-family: [^;]*;? ?", "", style))  # use the font of the page
    box = root.get("viewBox")
    root.attrib = {"viewBox": box, "width": box.split()[2], "role": "img", "aria-label": name}
    return ElementTree.tostring(root, encoding="unicode")
