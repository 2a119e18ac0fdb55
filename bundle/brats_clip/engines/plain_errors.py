"""Say what is wrong with an input in one line, instead of through ten layers of a config parser."""

from __future__ import annotations

import logging
import re
import sys
from types import TracebackType

from ..errors import BratsClipError

# An error that crosses from a data-loader worker arrives as the text of its traceback.
_IN_TEXT = re.compile(r"^brats_clip\.errors\.\w+: (.+)$", re.MULTILINE)


def plain_message(error: BaseException) -> str | None:
    """The message of the error of ours that ``error`` comes from; None if it comes from none."""
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
    """From now on, end the process with one line on stderr, and status 1, where an input is at fault.

    What engines log about such an error on its way becomes the same line, without its traceback. Called first by the
    run of each config, so that only commands are affected, not programs that use the package.
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
