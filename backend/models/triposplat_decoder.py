"""The networks that turn TripoSplat's latents into Gaussians: where points go, and what is around each."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from ..shared.ply import SH_C0
from .lgm import Gaussians
from .triposplat_layers import (
    FeedForward,
    HeadRMSNorm,
    SinusoidEmbedding,
    attend,
    level_sinusoids,
    norm,
    places,
)

# Numbers of every Gaussian in the order of the features: place, colour, scales, quaternion, opacity, reach.
_NUMBERS = (3, 3, 3, 4, 1, 1)


class TripoSplatDecoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """An octree whose cells are divided where the object is, and a transformer over the points in its cells.

    The defaults are the published model; parameter names are those of its file.

    Args:
        gaussians_per_point: so many surround every point.
        place_reach: how far they may be from it, in units of a length that is learned for each.
        place_length: to what that length is set in the beginning.
        rotation_rate: how much the features turn a Gaussian.
        smallest_scale: of a Gaussian, in metres: finer ones would flicker.
        usual_scale, usual_opacity: of a Gaussian whose features are zero.

    Source: TripoSplat (arXiv 2605.16355).
    """

    config: Any

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        width: int = 1024,
        num_heads: int = 16,
        octree_blocks: int = 4,
        gaussian_blocks: int = 16,
        mlp_ratio: float = 4,
        gaussians_per_point: int = 32,
        place_reach: float = 1.5,
        place_length: float = 0.05,
        rotation_rate: float = 0.1,
        smallest_scale: float = 0.0009,
        usual_scale: float = 0.004,
        usual_opacity: float = 0.1,
    ) -> None:
        super().__init__()
        sizes = width, num_heads, int(mlp_ratio * width), latent_channels
        self.octree = _Octree(*sizes, octree_blocks)
        self.gs = _PointTransformer(*sizes, gaussian_blocks, gaussians_per_point)
        with torch.no_grad():
            self.gs.points_offset_perturbation.copy_(_well_spread(gaussians_per_point, place_reach))
            self.gs.base_offset_scale.fill_(_inverse_softplus(place_length))

    @apply_forward_hook
    def child_logits(
        self,
        centres: Tensor,  # [B, P, 3] of cells, 0..1
        resolution: Tensor,  # [B] cells a side, of the children
        latent: Tensor,  # [B, L, latent_channels]
    ) -> Tensor:  # [B, P, 8]
        """How much of the object is in each eighth of the cells, as logits."""
        return self.octree(centres, resolution, latent)

    @apply_forward_hook
    def features(
        self,
        points: Tensor,  # [B, P, 3], 0..1
        latent: Tensor,  # [B, L, latent_channels]
    ) -> Tensor:  # [B, P, 15 * gaussians_per_point]
        """What is around the points, before it is activated."""
        return self.gs(points, latent)

    @apply_forward_hook
    def gaussians(self, features: Tensor, points: Tensor) -> Gaussians:
        """Activates features: Gaussians in the order of the points, within about [-0.5, 0.5]^3, Z up.

        In full precision: in half of it, opacities near 1 would be 1.
        """
        config = self.config
        per_point = config.gaussians_per_point
        groups = features.float().split([n * per_point for n in _NUMBERS], dim=-1)
        places, colors, scales, quats, opacities, reaches = (
            group.unflatten(-1, (per_point, n)) for group, n in zip(groups, _NUMBERS, strict=True)
        )
        offsets = (places + self.gs.points_offset_perturbation.float()).tanh() * (0.5 * config.place_reach)
        offsets = offsets * F.softplus(reaches + self.gs.base_offset_scale.float())
        usual_quat = quats.new_tensor([1.0, 0.0, 0.0, 0.0])
        usual_logit = math.log(config.usual_opacity / (1 - config.usual_opacity))
        softplus = F.softplus(scales + _inverse_softplus(config.usual_scale))
        return Gaussians(
            means=(points.float()[..., None, :] + offsets - 0.5).flatten(1, 2),
            opacities=(opacities + usual_logit).sigmoid().flatten(1),
            scales=(softplus.square() + config.smallest_scale**2).sqrt().flatten(1, 2),
            quats=F.normalize(config.rotation_rate * quats + usual_quat, dim=-1).flatten(1, 2),
            rgb=(0.5 + SH_C0 * colors).flatten(1, 2),
        )


class _Octree(nn.Module):
    """Says how the content of cells is shared among their eighths."""

    def __init__(self, width: int, heads: int, inner: int, latent_channels: int, blocks: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(3, width)
        self.input_layer = nn.Linear(width, width)
        self.l_embedder = SinusoidEmbedding(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(_OctreeBlock(width, heads, inner, latent_channels) for _ in range(blocks))
        self.out_proj = nn.Linear(width, 8)

    def forward(self, centres: Tensor, resolution: Tensor, latent: Tensor) -> Tensor:
        latent = latent.to(self.out_proj.weight.dtype)
        level = self.l_embedder(level_sinusoids(resolution))
        parts = self.adaLN_modulation(level)[:, None].chunk(6, dim=-1)
        h = self.input_layer(_embedded(centres, self.in_proj))
        for block in self.blocks:
            h = block(h, latent, parts)
        return self.out_proj(norm(h, 1e-5))


class _OctreeBlock(nn.Module):
    """Cells look at the latents, not at each other."""

    def __init__(self, width: int, heads: int, inner: int, latent_channels: int) -> None:
        super().__init__()
        self.cross_attn = _CrossAttention(width, heads, latent_channels)
        self.mlp = FeedForward(width, inner)

    def forward(self, h: Tensor, latent: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = parts
        h = h + gate * self.cross_attn(norm(h) * (1 + scale) + shift, latent)
        return h + mlp_gate * self.mlp(norm(h) * (1 + mlp_scale) + mlp_shift)


class _PointTransformer(nn.Module):
    """Points look at each other and at the latents."""

    def __init__(
        self, width: int, heads: int, inner: int, latent_channels: int, blocks: int, per_point: int
    ) -> None:
        super().__init__()
        self.in_proj = nn.Linear(3, width)
        self.input_layer = nn.Linear(width, width)
        self.blocks = nn.ModuleList(_PointBlock(width, heads, inner, latent_channels) for _ in range(blocks))
        self.out_proj = nn.Linear(width, sum(_NUMBERS) * per_point)
        self.points_offset_perturbation = nn.Buffer(torch.zeros(per_point, 3))
        self.base_offset_scale = nn.Buffer(torch.zeros(()))

    def forward(self, points: Tensor, latent: Tensor) -> Tensor:
        latent = latent.to(self.out_proj.weight.dtype)
        h = self.input_layer(_embedded(points, self.in_proj))
        for block in self.blocks:
            h = block(h, latent)
        return self.out_proj(norm(h, 1e-5))


class _PointBlock(nn.Module):
    def __init__(self, width: int, heads: int, inner: int, latent_channels: int) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.cross_attn = _CrossAttention(width, heads, latent_channels)
        self.mlp = FeedForward(width, inner)

    def forward(self, h: Tensor, latent: Tensor) -> Tensor:
        h = h + self.self_attn(norm(h))
        h = h + self.cross_attn(self.norm2(h), latent)
        return h + self.mlp(norm(h))


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.q_rms_norm = HeadRMSNorm(heads, width // heads)
        self.k_rms_norm = HeadRMSNorm(heads, width // heads)
        self.to_out = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:  # [B, L, width]
        q, k, v = self.to_qkv(h).unflatten(-1, (3, self.heads, -1)).unbind(2)
        return self.to_out(attend(self.q_rms_norm(q), self.k_rms_norm(k), v))


class _CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int, latent_channels: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_kv = nn.Linear(latent_channels, 2 * width)
        self.q_rms_norm = HeadRMSNorm(heads, width // heads)
        self.k_rms_norm = HeadRMSNorm(heads, width // heads)
        self.to_out = nn.Linear(width, width)

    def forward(self, h: Tensor, latent: Tensor) -> Tensor:  # [B, L, width], [B, M, latent_channels]
        q = self.to_q(h).unflatten(-1, (self.heads, -1))
        k, v = self.to_kv(latent).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return self.to_out(attend(self.q_rms_norm(q), self.k_rms_norm(k), v))


def _embedded(points: Tensor, in_proj: nn.Linear) -> Tensor:  # [B, P, 3] -> [B, P, width]
    linear = in_proj(points.to(in_proj.weight.dtype))
    return linear + point_embedding(points, linear.shape[-1]).to(linear.dtype)


def point_embedding(points: Tensor, width: int) -> Tensor:  # [..., 3], 0..1 -> [..., width], float32
    """Sinusoids of points in the unit cube."""
    frequencies = 2 ** torch.linspace(0, 10, width // 6, dtype=torch.float32, device=points.device)
    return places(points.float()[..., None] * frequencies * math.pi, width)


def _well_spread(count: int, reach: float) -> Tensor:  # [count, 3]
    """What brings the Gaussians of a point to Hammersley's points around it."""
    spread = torch.tensor([[i / count, _radical_inverse(i, 2), _radical_inverse(i, 3)] for i in range(count)])
    return torch.atanh((2 * spread - 1) / reach)


def _radical_inverse(i: int, base: int) -> float:
    value, digit = 0.0, 1.0
    while i:
        digit /= base
        value += digit * (i % base)
        i //= base
    return value


def _inverse_softplus(value: float) -> float:
    return math.log(math.expm1(value))
