"""A known object for tests of fitting: a dented ellipsoid with stripes, and images of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from backend.gaussians import fitting
from backend.gaussians.color import linear_to_srgb, srgb_to_linear
from backend.shared.sequence_file import Blending

FOV_DEG = 49.1


def painted_blob(count: int) -> fitting.SplatParameters:
    """The object as a nearly opaque cloud, in the parameters that `fitting` works with."""
    g = torch.Generator().manual_seed(3)
    p = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=-1)
    p = p * torch.tensor([0.5, 0.4, 0.6]) * (1 + 0.15 * torch.sin(5 * p[:, :1]))
    waves = torch.stack([9 * p[:, 0] + 4 * p[:, 2], 7 * p[:, 1], 8 * p[:, 2] - 5 * p[:, 1]], -1)
    color = 0.5 + 0.45 * torch.sin(waves)
    color = torch.where(torch.sin(14 * p[:, 2:]) > 0.6, 1 - color, color)
    size = 0.25 * math.sqrt(4 * math.pi / count)
    return fitting.SplatParameters(
        means=p,
        quats=torch.randn(count, 4, generator=g),
        log_scales=(size * torch.exp(0.5 * torch.randn(count, 3, generator=g))).log(),
        logits=torch.full((count,), 3.0),
        sh=((color - 0.5) / 0.28209479)[:, None],
        sh_rest=torch.zeros(count, 0, 3),
    )


@torch.no_grad()
def painted_images(splats: fitting.SplatParameters, cameras: Tensor, size: int, blending: Blending) -> Tensor:
    """[V, 4, size, size] straight alpha; the alpha is what lies between a black and a white background."""
    black, white = (
        fitting.render(splats, cameras, FOV_DEG, size, size, torch.full((len(cameras), 3), level), blending)
        for level in (0.0, 1.0)
    )
    if blending == "linear":
        black, white = srgb_to_linear(black), srgb_to_linear(white)
    alpha = (1 - (white - black).mean(-1, keepdim=True)).clamp(0, 1)
    color = (black / alpha.clamp_min(1e-6)).clamp(0, 1)
    if blending == "linear":
        color = linear_to_srgb(color)
    return torch.cat([color, alpha], -1).movedim(-1, 1)
