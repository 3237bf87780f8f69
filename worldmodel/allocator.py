"""The C library's allocator, told to keep what is freed.

By default large blocks may go back to the system when they are freed, and the next tensors take them again page by page, which costs more than a
sum over them. glibc learns to keep them by itself, but not always. What it came to: docs/benchmarks.md, *World model: speed*.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3), glibc
_LARGEST_INT = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Freed memory stays with this process from now on: it keeps as much as it ever needed. For processes whose work is generating chunks.

    Returns:
        Whether the C library can be told so: glibc can. With others everything works the same, only slower.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _LARGEST_INT))
