"""All patches to the internals of other packages. There are three:

1. ``replace_application``: routes requests for MONAI Label's server to our application. MONAI Label's router allows
   all origins (CORS ``*``), computes in the event loop and sends bare 500s; ``python -m monailabel.main`` accepts no
   other server.
2. ``StartLog``: replaces uvicorn's start-up lines. uvicorn prints a traceback for every error at start, and its log is
   the only sign that the port is open.
3. ``viewer.REPLACEMENTS``: replaces text of the packaged viewer as it is served; the files on disk stay unchanged.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.types import ASGIApp

_RUNS, _ERROR = "Uvicorn running on", "brats_clip.errors.InputError: "
logger = logging.getLogger("brats_clip.app")


def replace_application(server: Starlette, ours: ASGIApp) -> None:
    """Route every request for ``server`` to ``ours`` from now on, even while ``server`` is starting.

    This also bypasses the middleware around MONAI Label's routes, above all its CORS headers.
    """
    server.middleware_stack = ours


class StartLog(logging.Filter):
    """Replace uvicorn's start-up lines by the address and the served studies, or by one sentence on the error.

    Attributes:
        served: returns a sentence that describes the served studies; may be slow. None until the app exists.
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
        except Exception as error:  # the server keeps running
            logger.error("the served studies cannot be listed: %s", type(error).__name__, exc_info=error)
            served = "see the log"
        print(f"\nServer ready: {shown}/ (open it in a browser)\nServed: {served}\nCtrl-C stops it.\n", flush=True)


start_log = StartLog()


def attach_start_log() -> None:
    """Install ``start_log`` once, and hide the INFO lines of MONAI Label's scheduler, which list its jobs."""
    uvicorn = logging.getLogger("uvicorn.error")
    if start_log not in uvicorn.filters:
        uvicorn.addFilter(start_log)
        logging.getLogger("timeloop").addFilter(lambda record: record.levelno > logging.INFO)
