"""Tables of numbers as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def figure(mean: float | None, sd: float | None = None, sign: str = "", digits: int = 3) -> str:
    """Format a number, with its standard deviation if given; "-" for None or NaN. ``sign="+"`` shows the sign."""
    if mean is None or mean != mean:
        return "-"
    return f"{mean:{sign}.{digits}f}" + ("" if sd is None or sd != sd else f" ± {sd:.{digits}f}")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]], texts: int = 1) -> list[str]:
    """Return the lines of a table; the first ``texts`` columns are text, the others right-aligned numbers."""
    ruler = ["---"] * texts + ["---:"] * (len(head) - texts)
    return [f"| {' | '.join(map(str, cells))} |" for cells in (head, ruler, *rows)]


def markdown_facts(facts: Mapping[str, Any]) -> list[str]:
    """Return one list item per known fact."""
    return [f"- {name}: {value}" for name, value in facts.items() if value not in (None, "")]
