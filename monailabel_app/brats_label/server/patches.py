"""All changes to what other packages do inside. There are three:

1. ``take_over``: requests to MONAI Label's server go to our application. Its own router would answer under CORS ``*``,
   compute in the event loop, and send bare 500s; ``python -m monailabel.main`` lets an app name no other server.
2. ``StartLog``: uvicorn prints a traceback for every error at start, and logs when the port is open, which nothing else
   can see.
3. ``viewer.REPLACEMENTS``: text of the packaged viewer, changed on the way out; its files stay as they are.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.types import ASGIApp

_RUNS, _ERROR = "Uvicorn running on", "brats_clip.errors.InputError: "
logger = logging.getLogger("brats_clip.app")


def take_over(server: Starlette, ours: ASGIApp) -> None:
    """Have ``ours`` answer every request to ``server`` from now on, also while that is starting.

    What is around MONAI Label's routes, the CORS headers above all, goes with them.
    """
    server.middleware_stack = ours


class StartLog(logging.Filter):
    """Changes uvicorn's lines at start: the address and what is served, or in one sentence why it did not start.

    Args:
        served: returns a sentence on what is served; may be slow. None before there is an app.
    """

    def __init__(self) -> None:
        super().__init__()
        self.served: Callable[[], str] | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text.startswith(_RUNS) and self.served is not None:
            address = text.split()[3]
            threading.Thread(target=self._print, args=(address,), name="start message", daemon=True).start()
            return False
        if text.startswith("Traceback") and (at := text.rfind(f"\n{_ERROR}")) >= 0:
            record.msg, record.args, record.exc_info = text[at + 1 + len(_ERROR) :].strip(), (), None
            record.__dict__.pop("color_message", None)
        return True

    def _print(self, address: str) -> None:
        shown = address.replace("//0.0.0.0:", "//127.0.0.1:")
        try:
            served = self.served()
        except Exception as error:  # the server runs all the same
            logger.error("the served studies cannot be listed: %s", type(error).__name__, exc_info=error)
            served = "see the log"
        print(f"\nServer ready: {shown}/ (open it in a browser)\nServed: {served}\nCtrl-C stops it.\n", flush=True)


start_log = StartLog()


def attach_start_log() -> None:
    """Begin to listen; calling it again does nothing. MONAI Label's scheduler keeps its job list to itself."""
    uvicorn = logging.getLogger("uvicorn.error")
    if start_log not in uvicorn.filters:
        uvicorn.addFilter(start_log)
        logging.getLogger("timeloop").addFilter(lambda record: record.levelno > logging.INFO)
