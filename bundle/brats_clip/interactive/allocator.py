"""Keep freed memory for the next answer."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # names of mallopt(3)
KEPT_BYTES = 512 * 2**20


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory instead of handing it back after every tensor.

    Each answer takes and frees a few dozen tensors of some 30 MB; fetching fresh pages for them takes a quarter of the
    time of decoding on a CPU. What it costs, for the whole process and as long as it runs:

    - Tensors below 512 MiB come from the heap, which shrinks from its top only, and only once more than 512 MiB are
      free there: a small allocation made later pins all that was freed below it. The process stays about as large as
      it ever was.
    - All threads share one arena, since that of a thread of its own cannot hold tensors of this size: they wait for
      each other when they allocate.

    Returns:
        Whether it was done: not where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        return False
    settings = ((_MMAP_THRESHOLD, KEPT_BYTES), (_TRIM_THRESHOLD, KEPT_BYTES), (_ARENA_MAX, 1))
    done = [mallopt(ctypes.c_int(name), ctypes.c_int(value)) for name, value in settings]
    return all(done)
