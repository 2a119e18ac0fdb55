"""Keep freed memory in the process for the next segmentation."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # parameters of mallopt(3)
KEPT_BYTES = 512 * 2**20


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory instead of returning it to the system after every tensor.

    Each segmentation allocates and frees a few dozen tensors of about 30 MB; page faults on fresh memory take a quarter
    of the decoding time on a CPU. The costs concern the whole process until it ends:

    - Tensors below 512 MiB come from the heap, which only shrinks from its top, and only if more than 512 MiB are free
      there: a small later allocation pins all memory freed below it. The process stays about as large as its peak.
    - All threads share one arena, since the arena of a single thread cannot hold tensors of this size: threads wait
      for each other when they allocate.

    Returns:
        Whether it was done; False if the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        return False
    settings = ((_MMAP_THRESHOLD, KEPT_BYTES), (_TRIM_THRESHOLD, KEPT_BYTES), (_ARENA_MAX, 1))
    done = [mallopt(ctypes.c_int(name), ctypes.c_int(value)) for name, value in settings]
    return all(done)
