"""Settings of the bundle's configs that follow "--" on a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from brats_clip.errors import InputError

from .json_files import read_json

OWN_OPTION = "this script's own option before the --"


def cut_at_dashes(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before the first "--", and those after it."""
    cut = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:cut]), list(argv[cut + 1 :])


def read_overrides(
    words: Sequence[str], configs: Sequence[Path], refused: Mapping[str, str], where: str = "after --"
) -> dict[str, str]:
    """Read ``--name value`` and ``--name=value``; ``refused`` says what is expected instead of a setting.

    Args:
        words: what was typed.
        configs: files whose settings may be overridden.
        refused: what is expected instead, by setting.
        where: the words stand, for messages.

    Raises:
        InputError: for a name that none of ``configs`` has, which MONAI would silently ignore, and for one of
            ``refused``.
    """
    known = {name.lstrip("+") for config in configs for name in read_json(config)}
    overrides, rest = {}, list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not equals and rest and not rest[0].startswith("--"):
            equals, value = "=", rest.pop(0)
        if not name.startswith("--") or not equals:
            raise InputError(where, repr(name), "--name value")
        top = name.removeprefix("--").split("#")[0].split("::")[0]
        if top in refused or top not in known:
            raise InputError(where, name, refused.get(top, f"a setting of {' or '.join(c.name for c in configs)}"))
        overrides[name.removeprefix("--")] = value
    return overrides
