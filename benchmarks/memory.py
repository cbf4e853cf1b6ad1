"""Peak memory of this process (Linux with glibc)."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

MIB = 2**20


def reset_peak() -> int:
    """Gives free memory back, starts a new high-water mark; returns the resident bytes of now."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def return_freed_memory_at_once() -> None:
    """Takes every larger piece of memory from the system and gives it back: slower, but peaks are those of live memory."""
    m_mmap_threshold = -3  # malloc.h
    ctypes.CDLL("libc.so.6").mallopt(m_mmap_threshold, 64 * 2**10)


def peak() -> int:
    """Resident bytes at the high-water mark."""
    return status("VmHWM")


def status(key: str) -> int:
    """A memory figure of this process in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024
