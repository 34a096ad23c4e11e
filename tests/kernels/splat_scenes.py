"""Made-up splat scenes for tests and benchmarks: a shell of splats seen by cameras around it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def shell(count: int, seed: int = 0) -> dict[str, Tensor]:
    """`count` splats of random shape, opacity and colour on a sphere of radius 1 ± 0.05, without holes."""
    g = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=-1)
    spacing = math.sqrt(4 * math.pi / max(count, 1))
    return {
        "means": direction * (1 + 0.05 * torch.randn(count, 1, generator=g)),
        "quats": torch.randn(count, 4, generator=g),
        "scales": 0.8 * spacing * torch.exp(0.5 * torch.randn(count, 3, generator=g)),
        "opacities": torch.sigmoid(1.5 * torch.randn(count, generator=g)),
        "colors": torch.rand(count, 3, generator=g),
    }


def cameras(
    count: int, width: int, height: int, fov_deg: float = 40.0, radius: float = 3.2
) -> dict[str, Tensor]:
    """viewmats [C, 4, 4] and Ks [C, 3, 3] of cameras on a circle a little above the middle, looking at it."""
    azimuth = 0.3 + torch.arange(count) * (2 * math.pi / max(count, 1))
    elevation = torch.full_like(azimuth, 0.3)
    eye = radius * torch.stack(
        [azimuth.cos() * elevation.cos(), azimuth.sin() * elevation.cos(), elevation.sin()], -1
    )
    forward = -eye / radius
    right = torch.nn.functional.normalize(
        torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0]).expand_as(eye))
    )
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], 1)
    viewmats = torch.eye(4).repeat(count, 1, 1)
    viewmats[:, :3, :3] = rotation
    viewmats[:, :3, 3] = -(rotation @ eye[..., None])[..., 0]
    focal = width / (2 * math.tan(math.radians(fov_deg) / 2))
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return {"viewmats": viewmats, "Ks": K.repeat(count, 1, 1)}


def as_leaves(tensors: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Copies that collect gradients, except for the intrinsics."""
    return {
        name: tensor.to(dtype, copy=True).requires_grad_(name != "Ks") for name, tensor in tensors.items()
    }
