"""What ``make doctor`` checks. Nothing here needs a package before the check that looks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

OK, WARNING, PROBLEM = "OK", "WARNING", "PROBLEM"


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        check: what was looked at.
        level: OK; WARNING for what works, but not all of it; PROBLEM for what keeps the server from its work.
        says: what was found.
        remedy: what to do about it; "" if nothing is to be done.
    """

    check: str
    level: str
    says: str
    remedy: str = ""


def guarded(check: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What ``look`` finds; a check that fails itself is a problem, and the others continue."""
    try:
        yield from look()
    except ImportError as error:
        yield Finding(check, PROBLEM, f"cannot be checked: {error}", "make venv")
    except Exception as error:
        yield Finding(check, PROBLEM, f"cannot be checked: {type(error).__name__}: {error}", "correct what is named")


def counted(number: int, thing: str) -> str:
    """``1 case``, ``2 cases``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
