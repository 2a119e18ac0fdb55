"""Tables of figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def figure(mean: float | None, sd: float | None = None, sign: str = "", digits: int = 3) -> str:
    """A figure with its standard deviation where there is one; "-" where it is None or NaN. ``sign="+"`` shows it."""
    if mean is None or mean != mean:
        return "-"
    return f"{mean:{sign}.{digits}f}" + ("" if sd is None or sd != sd else f" ± {sd:.{digits}f}")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]], texts: int = 1) -> list[str]:
    """The lines of a table; the first ``texts`` columns are words, the rest figures, set to the right."""
    ruler = ["---"] * texts + ["---:"] * (len(head) - texts)
    return [f"| {' | '.join(map(str, cells))} |" for cells in (head, ruler, *rows)]


def markdown_facts(facts: Mapping[str, Any]) -> list[str]:
    """One line per fact that is known."""
    return [f"- {name}: {value}" for name, value in facts.items() if value not in (None, "")]
