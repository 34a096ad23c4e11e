"""Shares the work of an image among processor threads without changing a single bit of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

_pool: ThreadPoolExecutor | None = None
_pool_pid = 0


def on_threads(work: Callable[[], object], most: int) -> None:
    """Calls work() on as many threads as torch would use, but not on more than `most`.

    Each call takes turns at the same work until none is left. Which thread does what must not matter:
    every turn writes outputs of its own.
    """
    threads = min(torch.get_num_threads(), most)
    if threads <= 1:
        work()
        return
    global _pool, _pool_pid
    if _pool is None or _pool_pid != os.getpid():  # a forked child has the object but not its threads
        _pool, _pool_pid = ThreadPoolExecutor(os.cpu_count(), "splats"), os.getpid()
    helpers = [_pool.submit(work) for _ in range(threads - 1)]
    work()
    for helper in helpers:
        if not helper.cancel():  # on a busy machine all may be done before a helper has begun
            helper.result()


def in_parts(function: Callable[[int, int], object], total: int, smallest: int) -> None:
    """Calls function(first, last) over parts of range(total), one part a thread.

    Args:
        smallest: fewer items than this are not worth a thread.
    """
    parts = min(torch.get_num_threads(), max(1, total // smallest))
    turns = pairwise([total * part // parts for part in range(parts + 1)])

    def work() -> None:
        for first, last in turns:  # shared: its next() is atomic under the interpreter lock
            function(first, last)

    on_threads(work, parts)
