"""Settings of the process that make training faster on a CPU: compiled kernels are kept, and so is freed memory."""

from __future__ import annotations

import ctypes
import os

KERNELS = 500_000
"""oneDNN's primitives that are kept. Its default of 1,024 is less than what a dozen networks need: each convolution of each
shape has three or more, and one that was dropped is compiled anew, which often takes longer than to run it. A convolution's
take some 50 kB."""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # as in glibc's malloc.h


def tune() -> None:
    """Makes the settings, which last until the process ends; what the environment says already is left alone.

    oneDNN reads its setting at the process's first convolution, so that it comes too late in one that has run a network before.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:  # glibc; each step needs the memory that the one before has freed, and new pages cost time
        if "MALLOC_MMAP_MAX_" not in os.environ:
            mallopt(_MMAP_MAX, 0)
        if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
            mallopt(_TRIM_THRESHOLD, 2**31 - 1)
