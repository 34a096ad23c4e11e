"""Images of a data set before a background."""

from __future__ import annotations

from torch import Tensor


def over(rgba: Tensor, background: float | Tensor) -> Tensor:  # [..., 4, H, W] -> [..., 3, H, W]
    """Pictures before a grey background, mixed as they are displayed."""
    color, alpha = rgba.split([3, 1], dim=-3)
    return color * alpha + background * (1 - alpha)
