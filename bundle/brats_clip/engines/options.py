"""Catch an option that was misspelt: MONAI adds whatever it does not know to the config, where nothing reads it."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fire
from monai.bundle import DEFAULT_EXP_MGMT_SETTINGS, ConfigParser, ConfigWorkflow, run, run_workflow

from ..errors import InputError

_COMMANDS = {"run": run, "run_workflow": run_workflow}
_OF_MONAI = {name for call in (run, run_workflow, ConfigWorkflow) for name in inspect.signature(call).parameters}
_IDS = {"run_id": "run", "init_id": "initialize", "final_id": "finalize"}


def is_bundle_command(argv: Sequence[str] | None = None) -> bool:
    """Whether this process was started as ``python -m monai.bundle run``, and not by a program that runs a bundle."""
    argv = sys.argv if argv is None else argv
    return Path(argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py") and argv[1:2] in [
        [name] for name in _COMMANDS
    ]


def check_options(argv: Sequence[str] | None = None) -> None:
    """Refuse an option of the command whose name is in none of its config files.

    Args:
        argv: the command line; that of this process by default. Anything but MONAI's ``run`` passes.

    Raises:
        InputError: naming the option and the nearest name there is.
    """
    argv = sys.argv if argv is None else argv
    if not is_bundle_command(argv):
        return
    options = _as_monai_reads(argv[1:])
    files = options.get("config_file")
    files = [files] if isinstance(files, str) else list(files or [])
    known = _OF_MONAI | {"_meta_"} | {str(options.get(key) or name) for key, name in _IDS.items()}
    known |= {_top(name) for file in files for name in ConfigParser.load_config_file(file)}
    if options.get("tracking") is not None:
        known |= _of_tracking(options["tracking"])
    for option in options:
        if _top(option) not in known:
            near = difflib.get_close_matches(_top(option), known, 1)
            instead = f"--{near[0]}, or another name" if near else "a name"
            expected = f"{instead} at the top of {' or '.join(Path(file).name for file in files)}"
            raise InputError(f"--{option}", "a name that is in no config file", expected)


def _as_monai_reads(words: Sequence[str]) -> dict[str, Any]:
    """The arguments of a command by name, as Fire hands them to MONAI, with those of its ``args_file``."""
    found: dict[str, Any] = {}

    @functools.wraps(_COMMANDS[words[0]])
    def note(*args: Any, **kwargs: Any) -> None:
        found.update(inspect.signature(note).bind(*args, **kwargs).arguments)

    fire.Fire({words[0]: note}, command=list(words))
    found |= found.pop("override", {}) | found.pop("kwargs", {})
    defaults = ConfigParser.load_config_file(found["args_file"]) if found.get("args_file") else {}
    return defaults | {name: value for name, value in found.items() if value is not None}


def _top(name: str) -> str:
    """The first part of ``+train#dataset`` or ``train::dataset``."""
    return re.split("#|::", name.lstrip("+"), maxsplit=1)[0]


def _of_tracking(settings: str | dict) -> set[str]:
    """The keys that ``--tracking`` takes."""
    if isinstance(settings, str):
        known = DEFAULT_EXP_MGMT_SETTINGS.get(settings)
        settings = ConfigParser.load_config_files(settings) if known is None else known
    return {"save_execute_config", *settings.get("configs", {})}
