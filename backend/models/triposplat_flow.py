"""The network that turns noise into TripoSplat's latents of an object, and the camera that saw it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from .triposplat_layers import (
    FeedForward,
    HeadRMSNorm,
    SinusoidEmbedding,
    attend,
    norm,
    places,
    time_sinusoids,
)

CAMERA_NUMBERS = 5
_WHOLE_EXPONENTS = 16  # of the places' frequencies; the rest lie between them
_SOBOL_SEED = 123


@dataclass(frozen=True)
class Context:
    """What the network is told about the object, for all steps.

    Attributes:
        tokens: as `TripoSplatFlow.encode_context` gives them.
        copies: how many equal tokens each of them stands for.
    """

    tokens: Tensor  # [B, M, width]
    copies: int = 1


class TripoSplatFlow(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A transformer over latent tokens, context tokens and one camera token.

    Every block turns its queries and keys by angles that it works out of the tokens themselves, before they
    are normed. The defaults are the published model; parameter names are those of its file.

    Source: TripoSplat (arXiv 2605.16355).
    """

    config: Any

    @register_to_config
    def __init__(
        self,
        latent_tokens: int = 8192,
        latent_channels: int = 16,
        appearance_channels: int = 1280,
        detail_channels: int = 128,
        width: int = 1024,
        num_heads: int = 16,
        num_blocks: int = 24,
        num_refiner_blocks: int = 2,
        mlp_ratio: float = 4,
    ) -> None:
        super().__init__()
        sizes = width, num_heads, int(mlp_ratio * width)
        self.shift_table = nn.Parameter(torch.zeros(1, 2, width))
        self.t_embedder = SinusoidEmbedding(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.input_layer = nn.Linear(latent_channels, width)
        self.cond_embedder = nn.Linear(appearance_channels, width)
        self.cond_embedder2 = nn.Linear(detail_channels, width)
        self.cam_refiner = FeedForward(width, width, CAMERA_NUMBERS)
        self.noise_repo_layers = nn.ModuleList(RePo(width, num_heads) for _ in range(num_refiner_blocks))
        self.context_repo_layers = nn.ModuleList(RePo(width, num_heads) for _ in range(num_refiner_blocks))
        self.repo_layers = nn.ModuleList(RePo(width, num_heads) for _ in range(num_blocks))
        self.noise_refiner = nn.ModuleList(ModulatedBlock(*sizes) for _ in range(num_refiner_blocks))
        self.context_refiner = nn.ModuleList(Block(*sizes) for _ in range(num_refiner_blocks))
        self.blocks = nn.ModuleList(ModulatedBlock(*sizes) for _ in range(num_blocks))
        self.out_layer = nn.Linear(width, latent_channels)
        self.cam_out_layer = nn.Linear(width, CAMERA_NUMBERS)

    @apply_forward_hook
    def encode_context(
        self,
        appearance: Tensor,  # [B, M, appearance_channels]
        detail: Tensor,  # [B, M, detail_channels]
    ) -> Context:
        """The context tokens of an image's features; they are the same at all times."""
        tokens = self.cond_embedder(appearance.to(self.dtype)) + self.cond_embedder2(detail.to(self.dtype))
        for block, repo in zip(self.context_refiner, self.context_repo_layers, strict=True):
            tokens = block(tokens, repo(tokens))
        return Context(tokens)

    def forward(
        self,
        latent: Tensor,  # [B, L, latent_channels]
        camera: Tensor,  # [B, 1, 5]
        timestep: Tensor,  # [B], 0..1000
        context: Context,
    ) -> tuple[Tensor, Tensor]:
        """The velocities of the latent and of the camera, of the shapes of these."""
        dtype = self.dtype
        time = self.t_embedder(time_sinusoids(timestep))  # [B, width]
        modulation = self.adaLN_modulation(time)
        where = place_embedding(sobol_positions(latent.shape[1]).to(latent.device), time.shape[-1])
        h = self.input_layer(latent.to(dtype)) + where.to(dtype)
        for block, repo in zip(self.noise_refiner, self.noise_repo_layers, strict=True):
            h = block(h, repo(h), modulation)

        count, told = h.shape[1], context.tokens.shape[1]
        h = torch.cat([h, context.tokens.expand(len(h), -1, -1), self.cam_refiner(camera.to(dtype))], dim=1)
        bias = None
        if context.copies > 1:
            bias = h.new_zeros(1, h.shape[1])
            bias[:, count : count + told] = math.log(context.copies)
        for block, repo in zip(self.blocks, self.repo_layers, strict=True):
            h = block(h, repo(h), modulation, bias)

        h = torch.cat([h[:, :count], h[:, -1:]], dim=1)
        shift, scale = (self.shift_table + time[:, None]).split(1, dim=1)
        h = norm(h, 1e-5) * (1 + scale) + shift
        return self.out_layer(h[:, :count]), self.cam_out_layer(h[:, count:])


class RePo(nn.Module):
    """Angles for every token and head by which its queries and keys are turned: learned places.

    Source: TripoSplat's released code; the idea is rotary position embedding (arXiv 2104.09864) with places
    that a gated layer gives.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, inner, pairs = heads, width // 8, width // heads // 2
        third = pairs // 3
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.gate_map = nn.Linear(width, inner, bias=False)
        self.content_map = nn.Linear(width, inner, bias=False)
        self.final_map = nn.Linear(inner, 3 * heads, bias=False)
        for axis, count in enumerate((third, third, pairs - 2 * third)):
            self.register_parameter(f"freqs_{axis}", nn.Parameter(torch.ones(count)))

    def forward(self, h: Tensor) -> Tensor:  # [B, L, width] -> [B, L, H, pairs], radians, float32
        normed = self.norm(h)
        gated = nn.functional.silu(self.gate_map(normed)) * self.content_map(normed)
        place = self.final_map(gated).unflatten(-1, (self.heads, 3)).float()
        axes = self.freqs_0, self.freqs_1, self.freqs_2
        angles = [place[..., i, None] * freqs.float() for i, freqs in enumerate(axes)]  # type: ignore[operator]
        return math.pi * torch.cat(angles, dim=-1)


class SelfAttention(nn.Module):
    """Attention of tokens to each other, with turned queries and keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = HeadRMSNorm(heads, width // heads)
        self.k_norm = HeadRMSNorm(heads, width // heads)
        self.out = nn.Linear(width, width)

    def forward(self, h: Tensor, angles: Tensor, bias: Tensor | None = None) -> Tensor:  # [B, L, width]
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).unbind(2)
        return self.out(attend(self.q_norm(turned(q, angles)), self.k_norm(turned(k, angles)), v, bias))


class Block(nn.Module):
    """A transformer's block, the same at all times."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = FeedForward(width, inner)

    def forward(self, h: Tensor, angles: Tensor) -> Tensor:  # [B, L, width]
        h = h + self.attn(self.norm1(h), angles)
        return h + self.mlp(self.norm2(h))


class ModulatedBlock(nn.Module):
    """A transformer's block whose norms and outputs are scaled by the time."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.shift_table = nn.Parameter(torch.zeros(1, 6 * width))
        self.attn = SelfAttention(width, heads)
        self.mlp = FeedForward(width, inner)

    def forward(
        self,
        h: Tensor,  # [B, L, width]
        angles: Tensor,
        modulation: Tensor,  # [B, 6 * width]
        bias: Tensor | None = None,  # [1, L] on the logits of attention
    ) -> Tensor:
        parts = (modulation + self.shift_table)[:, None].chunk(6, dim=-1)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = parts
        h = h + gate * self.attn(norm(h) * (1 + scale) + shift, angles, bias)
        return h + mlp_gate * self.mlp(norm(h) * (1 + mlp_scale) + mlp_shift)


def turned(x: Tensor, angles: Tensor) -> Tensor:  # [B, L, H, D], [B, L, H, D / 2] -> float32
    """Every pair of numbers turned by its angle."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


@functools.cache
def sobol_positions(count: int) -> Tensor:  # [count, 3], 0..1
    """The places that latent tokens begin from: fixed, well spread, the same in every run."""
    return torch.quasirandom.SobolEngine(3, scramble=True, seed=_SOBOL_SEED).draw(count)


def place_embedding(positions: Tensor, width: int) -> Tensor:  # [..., 3] -> [..., width]
    """Sinusoids of positions in the unit cube.

    Angles reach 2e5, so that the order of the products in float32 belongs to the network.
    """
    count = width // 6
    between = count - _WHOLE_EXPONENTS
    exponents = [float(i) for i in range(_WHOLE_EXPONENTS)][:count]
    exponents += [j / between * _WHOLE_EXPONENTS for j in range(between)]
    frequencies = 2 ** torch.tensor(exponents, dtype=torch.float32, device=positions.device)
    angles = positions.float()[..., None] * frequencies * 2 * math.pi
    return places(angles, width)
