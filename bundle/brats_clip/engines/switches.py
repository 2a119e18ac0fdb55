"""Catch a switch that was written in a way Python does not read as one."""

from __future__ import annotations

from ..errors import InputError


def check_switches(**switches: object) -> None:
    """Refuse anything but True and False: ``--resume false`` arrives as a text, and a text counts as true.

    Raises:
        InputError: naming the switch, as ``--name value``.
    """
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise InputError(f"--{name}", repr(value), "True or False")
