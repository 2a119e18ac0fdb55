"""What a person reads while the server starts: the address and what is served, or in one sentence why it did not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger("brats_clip.app")

_RUNS, _ERROR = "Uvicorn running on", "brats_clip.errors.InputError: "


class StartLog(logging.Filter):
    """Changes uvicorn's lines: uvicorn alone knows when the port is open, and prints a traceback for every error.

    Args:
        served: tells what is served; may take its time. None before there is an app.
    """

    def __init__(self) -> None:
        super().__init__()
        self.served: Callable[[], str] | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text.startswith(_RUNS) and self.served is not None:
            address = text.split()[3]
            threading.Thread(target=self._greet, args=(address,), name="greeting", daemon=True).start()
            return False
        if text.startswith("Traceback") and (at := text.rfind(f"\n{_ERROR}")) >= 0:
            record.msg, record.args, record.exc_info = text[at + 1 + len(_ERROR) :].strip(), (), None
            record.__dict__.pop("color_message", None)
        return True

    def _greet(self, address: str) -> None:
        shown = address.replace("//0.0.0.0:", "//127.0.0.1:")
        try:
            served = self.served()
        except Exception as error:  # the server runs all the same
            logger.error("cannot tell what is served: %s", type(error).__name__, exc_info=error)
            served = "what, the log says"
        print(f"\nServer ready: {shown}/ (open it in a browser)\nServed: {served}\nCtrl-C stops it.\n", flush=True)


start_log = StartLog()


def attach() -> None:
    """Begin to listen. Again does nothing; MONAI Label's scheduler is told to keep its job list to itself."""
    uvicorn = logging.getLogger("uvicorn.error")
    if start_log not in uvicorn.filters:
        uvicorn.addFilter(start_log)
        logging.getLogger("timeloop").addFilter(lambda record: record.levelno > logging.INFO)
