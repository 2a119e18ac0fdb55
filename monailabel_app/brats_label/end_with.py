"""A process that ends with the one that started it, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """End this process, as a kill would, when ``parent`` is no longer the one that started it; at once if it is not.

    Linux does it, even while this process is stopped; elsewhere a thread looks twice a second.

    Args:
        parent: process id, as the parent knows it: one that is gone already cannot be asked.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def end_if_orphaned() -> None:
        if os.getppid() != parent:
            os._exit(1)

    def watch() -> None:
        while True:
            end_if_orphaned()
            time.sleep(0.5)

    end_if_orphaned()
    threading.Thread(target=watch, name="ends with its parent", daemon=True).start()
