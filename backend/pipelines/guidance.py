"""Classifier-free guidance (arXiv 2207.12598), on batches of unconditional, then conditional rows."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor


def split_cfg_batch(together: bool, *batches: Tensor) -> Iterator[tuple[Tensor, ...]]:  # [2 * B, ...] each
    """Yields the guidance batch whole, or its unconditional and conditional halves in turn."""
    return zip(*(batch.chunk(1 if together else 2) for batch in batches), strict=True)


def apply_cfg(batch: Tensor, scale: float) -> Tensor:  # [2 * B, ...] -> [B, ...]
    """Classifier-free guidance: uncond + scale * (cond - uncond)."""
    uncond, cond = batch.chunk(2)
    return uncond + scale * (cond - uncond)
