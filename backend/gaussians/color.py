"""Colours as they are stored (sRGB) and as light (linear), where it is right to mix them."""

from __future__ import annotations

import torch
from torch import Tensor


def srgb_to_linear(srgb: Tensor) -> Tensor:
    """Decodes sRGB values; negative ones by the straight part (IEC 61966-2-1). Differentiable everywhere."""
    curve = ((srgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4  # clamped: a power of 0 has no finite gradient
    return torch.where(srgb <= 0.04045, srgb / 12.92, curve)


def linear_to_srgb(linear: Tensor) -> Tensor:
    """Encodes linear light as sRGB; inverse of `srgb_to_linear`."""
    curve = 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, curve)
