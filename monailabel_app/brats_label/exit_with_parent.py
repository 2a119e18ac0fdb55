"""End a process when its parent process ends, even if the parent is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1


def exit_with_parent(parent: int) -> None:
    """End this process, without cleanup, when its parent ends; at once if ``parent`` is not its parent any more.

    On Linux the kernel kills it, even while it is stopped. A thread also checks twice a second, for other systems.

    Args:
        parent: process id of the parent, passed by the parent itself, which may have ended before this call.
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
