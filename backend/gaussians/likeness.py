"""How unlike images are, for what is fitted or trained to make them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

EDGE_WEIGHT = 1.0
CONTRAST_PX = 8  # side of a square


def difference(made: Tensor, true: Tensor) -> Tensor:  # [..., H, W] each
    """The mean error of colours, and of edges, without which all comes out softer."""
    error = made - true
    across, down = error.diff(dim=-1).abs().mean(), error.diff(dim=-2).abs().mean()
    return error.abs().mean() + EDGE_WEIGHT * (across + down)


def contrast_difference(made: Tensor, true: Tensor) -> Tensor:  # [..., H, W] each
    """The mean error of how strong gradients are, in overlapping squares, wherever in there they are.

    What is not known for sure comes out in the middle by the mean error, and soft; by this, it is an edge
    somewhere near.
    """
    return (_contrast(made) - _contrast(true)).abs().mean()


def _contrast(images: Tensor) -> Tensor:  # [..., H, W] -> [..., h, w]
    down, across = images.diff(dim=-2)[..., :-1], images.diff(dim=-1)[..., :-1, :]
    strength = (down.square() + across.square() + 1e-6).sqrt()
    return F.avg_pool2d(strength, CONTRAST_PX, CONTRAST_PX // 2)
