"""Chooses points where an object is: a cell's points are dealt to its eighths, level by level."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LEVELS = 8
_EIGHTHS = torch.tensor([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)])  # x changes fastest


@torch.no_grad()
def sample_points(
    child_logits: Callable[[Tensor, int], Tensor],  # centres [P, 3] in 0..1, children a side -> [P, 8]
    count: int,
    uniform: Callable[..., Tensor],  # random numbers in 0..1 of the shape that it is called with
    levels: int = LEVELS,
) -> Tensor:  # [count, 3], 0..1, on the CPU
    """Points in the unit cube, as many in every cell of the finest level as the network's shares say.

    Source: TripoSplat (arXiv 2605.16355).
    """
    cells, counts = torch.zeros(1, 3, dtype=torch.long), torch.tensor([count])
    for level in range(1, levels + 1):
        centres = (cells + 0.5) / 2 ** (level - 1)
        shares = child_logits(centres, 2**level).float().softmax(-1).cpu()
        dealt = deal(shares, counts, uniform(len(cells)))
        parent, child = dealt.nonzero(as_tuple=True)
        cells, counts = 2 * cells[parent] + _EIGHTHS[child], dealt[parent, child]
    cells = cells.repeat_interleave(counts, dim=0)
    return (cells + uniform(*cells.shape)) / 2**levels


def deal(
    shares: Tensor,  # [N, K] that add up to 1; a row of zeros counts as equal shares
    counts: Tensor,  # [N]
    offsets: Tensor,  # [N] uniform in 0..1
) -> Tensor:  # [N, K] that add up to `counts`
    """Deals counts by shares as evenly as whole numbers can: systematic resampling."""
    ends = torch.where(shares.sum(-1, keepdim=True) > 0, shares, 1 / shares.shape[-1]).cumsum(-1)
    row = torch.arange(len(counts)).repeat_interleave(counts)
    nth = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
    mark = (offsets[row] + nth) / counts[row]
    child = (ends[row] < mark[:, None]).sum(-1).clamp(max=shares.shape[-1] - 1)
    return torch.bincount(row * shares.shape[-1] + child, minlength=shares.numel()).view(shares.shape)
