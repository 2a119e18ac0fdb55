"""Switches as they come from a command line."""

from __future__ import annotations

from .errors import InputError


def read_switch(name: str, value: bool | str) -> bool:
    """Read a switch: ``--resume false`` arrives as a text, and any text counts as true in Python.

    Raises:
        InputError: naming the switch, for anything but True, False and the words for them.
    """
    known = {"true": True, "false": False}
    found = known.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise InputError(f"--{name}", repr(value), "True or False")
    return found
