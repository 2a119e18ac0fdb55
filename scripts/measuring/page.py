"""What the pages of all measurements share: figures with their spread, and templates to render."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import jinja2

from brats_clip.evaluation import MEASURES, atomic_write
from brats_clip.evaluation.spread import bootstrap_interval
from brats_clip.evaluation.summary import statistics
from brats_clip.evaluation.tables import figure

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("pages")),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
)


def spread(name: str, values: Iterable[float | None], interval: bool = False) -> dict[str, float | None]:
    """Columns ``NAME`` (mean) and ``NAME_sd``; with ``interval`` the 95 % bootstrap interval, ``_low`` to ``_high``."""
    values = list(values)
    found = statistics(values)
    columns = {name: found["mean"], f"{name}_sd": found["std"]}
    if interval:
        low, high = bootstrap_interval(values)
        columns |= {f"{name}_low": low, f"{name}_high": high}
    return columns


def cell(line: Mapping, name: str, sign: str = "", digits: int = 3) -> str:
    """Mean ± standard deviation of ``spread``, and [its interval] where it has one."""
    text = figure(line[name], line.get(f"{name}_sd"), sign, digits)
    low, high = line.get(f"{name}_low"), line.get(f"{name}_high")
    return text if low is None else f"{text} [{low:+.{digits}f}, {high:+.{digits}f}]"


def render(template: str, **context: object) -> str:
    """The Markdown of ``pages/TEMPLATE.md.j2``, which knows ``cell``, ``figure`` and the measures of Dice, too."""
    shared = {"measures": list(MEASURES), "dice_heads": [f"Dice {m}" for m in MEASURES], "cell": cell, "figure": figure}
    return _TEMPLATES.get_template(f"{template}.md.j2").render(shared | context)


def write_page(path: Path, template: str, **context: object) -> None:
    """Write what ``render`` gives, whole or not at all; ``name`` of the context is the file's, without its ending."""
    with atomic_write(path) as draft:
        draft.write_text(render(template, name=path.stem, **context), encoding="utf-8")
