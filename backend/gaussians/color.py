"""sRGB and linear light, and alpha blending in either."""

from __future__ import annotations

import torch
from torch import Tensor

from ..shared.sequence_file import Blending

GREY = 0.5  # sRGB, behind objects wherever no published model was trained on another


def srgb_to_linear(srgb: Tensor) -> Tensor:
    """Decodes sRGB values; negative ones by the straight part (IEC 61966-2-1). Differentiable everywhere."""
    curve = _power((srgb.clamp_min(0.04045) + 0.055) / 1.055, 2.4)  # clamped: of 0 it has no finite gradient
    return torch.where(srgb <= 0.04045, srgb / 12.92, curve)


def linear_to_srgb(linear: Tensor) -> Tensor:
    """Encodes linear light as sRGB; inverse of `srgb_to_linear`."""
    curve = 1.055 * _power(linear.clamp_min(0.0031308), 1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, curve)


def _power(values: Tensor, exponent: float) -> Tensor:
    """A power of positive numbers; how torch rounds its own is a matter of threads where there is AVX-512."""
    return (exponent * values.log()).exp()


def decode(srgb: Tensor, blending: Blending) -> Tensor:
    """The values that are blended: linear light, or sRGB as it is."""
    return srgb_to_linear(srgb) if blending == "linear" else srgb


def encode(values: Tensor, blending: Blending) -> Tensor:
    """Blended values as sRGB; inverse of `decode`."""
    return linear_to_srgb(values) if blending == "linear" else values


def over(
    rgba: Tensor,  # [..., 4, H, W] sRGB, straight alpha, 0..1
    background: float | Tensor,  # sRGB
    blending: Blending = "display",
    dim: int = -3,  # of the channels
) -> Tensor:  # [..., 3, H, W] sRGB
    """Images over a background (Porter and Duff 1984)."""
    color, alpha = rgba.split([3, 1], dim)
    behind = torch.as_tensor(background, dtype=color.dtype, device=color.device)
    return encode(decode(color, blending) * alpha + decode(behind, blending) * (1 - alpha), blending)
