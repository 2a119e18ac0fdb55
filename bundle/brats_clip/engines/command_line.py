"""Helpers for the bundle's commands: one-line errors, checks of options, boolean options, and a tidy console."""

from __future__ import annotations

import atexit
import difflib
import functools
import inspect
import logging
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import fire
from monai.bundle import DEFAULT_EXP_MGMT_SETTINGS, ConfigParser, ConfigWorkflow, run, run_workflow
from tqdm.contrib.logging import logging_redirect_tqdm

from ..errors import BratsClipError, InputError
from ..switches import read_switch

# An error in a data-loader worker process arrives as the text of its traceback.
_IN_TEXT = re.compile(r"^brats_clip\.errors\.\w+: (.+)$", re.MULTILINE)


def plain_message(error: BaseException) -> str | None:
    """Return the message of the ``BratsClipError`` that caused ``error``; None if there is none."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, BratsClipError):
            return str(current)
        if found := _IN_TEXT.search(str(current)):
            return found.group(1)
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None


def one_line_errors() -> None:
    """From now on, end the process with one line on stderr and status 1 if an input causes an error.

    Log records of engines about such an error get the same message, without the traceback. Each config calls this at
    the start of its run, so that only commands are affected, not programs that use the package.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        message = plain_message(error)
        if message is None:
            sys.__excepthook__(kind, error, trace)
        else:
            print(f"Error: {message}", file=sys.stderr)

    make_record = logging.getLogRecordFactory()

    def plain_record(*args, **kwargs) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        if record.levelno >= logging.ERROR:
            error = record.exc_info[1] if record.exc_info else None
            message = plain_message(error or Exception(record.getMessage()))
            if message is not None:
                record.msg, record.args, record.exc_info = message, (), None
        return record

    sys.excepthook = hook
    logging.setLogRecordFactory(plain_record)


_COMMANDS = {"run": run, "run_workflow": run_workflow}
_OF_MONAI = {name for call in (run, run_workflow, ConfigWorkflow) for name in inspect.signature(call).parameters}
_IDS = {"run_id": "run", "init_id": "initialize", "final_id": "finalize"}


def is_bundle_command(argv: Sequence[str] | None = None) -> bool:
    """Whether this process was started as ``python -m monai.bundle run``, not by a program that runs a bundle."""
    argv = sys.argv if argv is None else argv
    return Path(argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py") and argv[1:2] in [
        [name] for name in _COMMANDS
    ]


def check_options(argv: Sequence[str] | None = None) -> None:
    """Reject command-line options whose names are in none of the config files.

    Args:
        argv: command line; None takes that of this process. Only MONAI's ``run`` and ``run_workflow`` are checked.

    Raises:
        InputError: naming the option and the closest known name.
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
    """Return the arguments of a command by name, as Fire passes them to MONAI, with those of its ``args_file``."""
    found: dict[str, Any] = {}

    @functools.wraps(_COMMANDS[words[0]])
    def note(*args: Any, **kwargs: Any) -> None:
        found.update(inspect.signature(note).bind(*args, **kwargs).arguments)

    fire.Fire({words[0]: note}, command=list(words))
    found |= found.pop("override", {}) | found.pop("kwargs", {})
    defaults = ConfigParser.load_config_file(found["args_file"]) if found.get("args_file") else {}
    return defaults | {name: value for name, value in found.items() if value is not None}


def _top(name: str) -> str:
    """Return the top-level key of ``+train#dataset`` or ``train::dataset``."""
    return re.split("#|::", name.lstrip("+"), maxsplit=1)[0]


def _of_tracking(settings: str | dict) -> set[str]:
    """Return the config keys that ``--tracking`` adds."""
    if isinstance(settings, str):
        known = DEFAULT_EXP_MGMT_SETTINGS.get(settings)
        settings = ConfigParser.load_config_files(settings) if known is None else known
    return {"save_execute_config", *settings.get("configs", {})}


def read_switches(**switches: bool | str) -> dict[str, bool]:
    """Parse switches by name: ``--resume false`` arrives as a string, and any non-empty string is true in Python.

    Raises:
        InputError: naming the switch, as ``--name``, for anything but True, False and the strings "true" and "false".
    """
    return {name: read_switch(name, value) for name, value in switches.items()}


def tidy_console() -> None:
    """From now on, print log lines without breaking progress bars, and hide ignite messages that users do not need.

    Each config calls this at the start of its run; programs that run a bundle themselves keep their logging.
    """
    if is_bundle_command():
        console = ExitStack()
        root = logging.getLogger()
        if any(getattr(handler, "stream", None) in (sys.stdout, sys.stderr) for handler in root.handlers):
            console.enter_context(logging_redirect_tqdm())
        for handler in root.handlers:
            handler.addFilter(is_wanted)
        atexit.register(console.close)


def is_wanted(record: logging.LogRecord) -> bool:
    """Whether users need a log record: no "resuming" at a fresh start, and no error that is reported anyway."""
    if not record.name.startswith("ignite.engine"):
        return True
    message = record.getMessage()
    if record.levelno >= logging.ERROR:  # ignite raises the error again, which ends the command
        return plain_message(sys.exc_info()[1] or Exception(message)) is None
    return not message.startswith("Engine run resuming from iteration 0,")
