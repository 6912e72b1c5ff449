"""The C library's allocator, told to keep memory that it would return and ask for again.

glibc returns each large block to the system when it is freed.  A network frees and allocates the
same sizes at every call, and each new page costs a page fault.
"""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
THRESHOLDS = (2**30, 2**25)  # bytes; the second is the largest that older releases accept
KEEP = 2**31 - 1
VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Reuse freed memory in this process, unless the environment says otherwise; whether it does.

    Elsewhere than in glibc nothing changes.
    """
    if any(name in os.environ for name in VARIABLES):
        return False
    mallopt = getattr(_c_library(), "mallopt", None)
    if mallopt is None:
        return False
    accepted = any(mallopt(M_MMAP_THRESHOLD, size) for size in THRESHOLDS)
    return accepted and bool(mallopt(M_TRIM_THRESHOLD, KEEP))


def _c_library() -> object:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # TypeError on Windows
        return None
