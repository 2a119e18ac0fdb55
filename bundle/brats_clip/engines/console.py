"""Keep what a command writes readable: bars and log lines apart, and no line that says nothing."""

from __future__ import annotations

import atexit
import logging
import sys
from contextlib import ExitStack

from tqdm.contrib.logging import logging_redirect_tqdm

from .options import is_bundle_command
from .plain_errors import plain_message


def tidy_console() -> None:
    """From here on, a log line ends a progress bar's line first, and ignite says only what people need.

    Called by the run of each config; programs that run a bundle by themselves keep their logging.
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
    """Whether people need a log line: not a fresh start called "resuming", nor an error reported anyway."""
    if not record.name.startswith("ignite.engine"):
        return True
    message = record.getMessage()
    if record.levelno >= logging.ERROR:  # ignite raises it again, and so it ends the command
        return plain_message(sys.exc_info()[1] or Exception(message)) is None
    return not message.startswith("Engine run resuming from iteration 0,")
