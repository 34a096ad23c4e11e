"""Memory that tensors free is kept for the next ones, in large pages: counted in the system's page faults."""

from __future__ import annotations

import ctypes.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LENT = Path("/sys/kernel/mm/transparent_hugepage/enabled")
COUNTED = """
import resource
from backend import allocator
{keep}
import torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
torch.ones(2**16).sum()
print(faults(), sum(faults() for _ in range(4)))
"""
PAGES = 2**26 // 2**12

pytestmark = pytest.mark.skipif(
    not (sys.platform == "linux" and ctypes.util.find_library("c") == "libc.so.6"), reason="needs glibc"
)


def page_faults(keep: str) -> tuple[int, int]:
    """Of a first tensor of 64 MiB, and of four more after it was freed."""
    command = [sys.executable, "-c", COUNTED.format(keep=keep)]
    first, others = subprocess.check_output(command, cwd=ROOT, text=True, env={}).split()
    return int(first), int(others)


def test_next_tensors_take_the_memory_of_those_before() -> None:
    assert page_faults("")[1] > 3 * PAGES  # every page of every tensor
    assert page_faults("allocator.keep_memory()")[1] < PAGES / 4


@pytest.mark.skipif(not LENT.is_file() or "[never]" in LENT.read_text("utf-8"), reason="has no large pages")
def test_large_tensors_have_large_pages() -> None:
    assert page_faults("allocator.keep_memory()")[0] < PAGES / 4
