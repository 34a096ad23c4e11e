"""Layers that TripoSplat's networks share: time and level embeddings, feed-forward parts, norms of attention.

Parameter names are those of the published files.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FREQUENCIES = 128  # of a time or level, so that its sinusoid has 256 numbers


class HeadRMSNorm(nn.Module):
    """Norms the queries or keys of every head to sqrt(D) times a learned factor, in full precision."""

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, head_dim))

    def forward(self, x: Tensor) -> Tensor:  # [B, L, H, D] of any dtype -> the same in the weights' dtype
        normed = F.normalize(x.float(), dim=-1, eps=1e-12) * self.gamma.float() * math.sqrt(x.shape[-1])
        return normed.to(self.gamma.dtype)


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, inner: int, width_in: int | None = None) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width_in or width, inner), nn.GELU("tanh"), nn.Linear(inner, width)
        )

    def forward(self, x: Tensor) -> Tensor:  # [..., width_in] -> [..., width]
        return self.mlp(x)


class SinusoidEmbedding(nn.Module):
    """A number such as the time as a vector: sinusoids of it, then two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, sinusoids: Tensor) -> Tensor:  # [B, 256] -> [B, width]
        return self.mlp(sinusoids.to(next(self.mlp.parameters()).dtype))


def time_sinusoids(timestep: Tensor) -> Tensor:  # [B], 0..1000 -> [B, 256]
    """Cosines, then sines, of a time."""
    return _sinusoids(timestep, 10_000, 1)


def level_sinusoids(resolution: Tensor) -> Tensor:  # [B], cells a side -> [B, 256]
    """Cosines, then sines, of an octree's level."""
    return _sinusoids(resolution, 1024, 2 * math.pi)


def _sinusoids(value: Tensor, slowest: float, scale: float) -> Tensor:
    k = torch.arange(FREQUENCIES, dtype=torch.float32, device=value.device)
    angles = value.float()[:, None] * torch.exp(-math.log(slowest) * k / FREQUENCIES) * scale
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def places(angles: Tensor, width: int) -> Tensor:  # [..., 3, n] -> [..., width]
    """Sines, then cosines, of one coordinate after the other, filled up with zeros."""
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
    return F.pad(waves, (0, width - waves.shape[-1]))


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of [B, L, H, D] to [B, M, H, D], with `bias` [1, M] on the logits; gives [B, L, H * D]."""
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=bias
    )
    return out.transpose(1, 2).flatten(2)


def norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """Layer norm without weights."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)
