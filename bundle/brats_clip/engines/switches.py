"""Read the switches of a config as a command line writes them."""

from __future__ import annotations

from ..switches import read_switch


def read_switches(**switches: bool | str) -> dict[str, bool]:
    """Switches by name as True or False: ``--resume false`` arrives as a text, and any text counts as true in Python.

    Raises:
        InputError: naming the switch, as ``--name``, for anything but True, False and the words for them.
    """
    return {name: read_switch(name, value) for name, value in switches.items()}
