"""Lets glibc keep the memory that a job's tensors free for its next ones, and gives it back after the job.

By default glibc asks the system for every large tensor anew and returns it when it is freed. The system then
zeroes every page of the next one at its first touch, again and again. Large tensors have pages of 2 MiB in
place of 4 KiB where Linux lends them (figures: docs/speed.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of malloc.h
_NEVER = 2**31 - 1  # bytes that are free at the end of the heap before it shrinks
_LARGE = (
    2**30,
    32 * 2**20,
)  # what is mapped on its own; some glibc allow no more than the second
_PAD = 64 * 2**20  # by how much more than is needed the heap grows


def keep_memory() -> None:
    """Begins to; without glibc, or if $MALLOC_…_ says otherwise, nothing changes.

    To be called before torch is loaded, which reads its variable once.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's own name for it
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        any(mallopt(_MMAP_THRESHOLD, size) for size in _LARGE)
        mallopt(_TRIM_THRESHOLD, _NEVER)
        mallopt(_TOP_PAD, _PAD)


def give_back() -> None:
    """Returns what is free to the system."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
