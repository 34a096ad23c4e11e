"""One seed for a generation, and from it a source of random numbers for each purpose."""

from __future__ import annotations

import zlib

import torch


def generator_for(seed: int, purpose: str) -> torch.Generator:
    """A generator on the CPU, so that the numbers are the same whatever computes with them."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed}:{purpose}".encode()))
