"""Boolean command-line options (switches)."""

from __future__ import annotations

from .errors import InputError


def read_switch(name: str, value: bool | str) -> bool:
    """Parse a switch: ``--resume false`` arrives as a string, and any non-empty string is true in Python.

    Raises:
        InputError: naming the switch, for anything but True, False and the strings "true" and "false".
    """
    known = {"true": True, "false": False}
    found = known.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise InputError(f"--{name}", repr(value), "True or False")
    return found
