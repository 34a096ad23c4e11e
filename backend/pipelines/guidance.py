"""Classifier-free guidance and its branches: first the one without what is asked for, then the one with."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor


def branches(together: bool, *both: Tensor) -> Iterator[tuple[Tensor, ...]]:  # [2 * B, ...] each
    """What to evaluate at once of what both branches are told: all of it, or one after the other."""
    return zip(*(told.chunk(1 if together else 2) for told in both), strict=True)


def guide(both: Tensor, guidance: float) -> Tensor:  # [2 * B, ...] -> [B, ...]
    """Beyond what the prompt changes."""
    without, described = both.chunk(2)
    return without + guidance * (described - without)
