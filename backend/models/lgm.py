"""The network that turns a few views of an object into Gaussian splats in one pass."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

# Widths may be small in our starter; published weights always have 32 groups.
_NORM_GROUPS = 32


class Gaussians(NamedTuple):
    """Splats in the reconstructor's frame, ordered (view, row, column)."""

    means: Tensor  # [B, N, 3]
    opacities: Tensor  # [B, N], 0..1
    scales: Tensor  # [B, N, 3], standard deviations
    quats: Tensor  # [B, N, 4], w x y z
    rgb: Tensor  # [B, N, 3], sRGB 0..1


class LGM(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Large Multi-view Gaussian Model: an asymmetric U-Net whose output pixels are Gaussians.

    Views only meet in the attention layers, where the pixels of all of them form one sequence. The defaults
    are the published "big" model. Parameter names are those of the published files.

    Args:
        rotation: "identity" for weights from before LGM's rotation fix (VideoMV's, and LGM's first ones):
            they were trained with each quaternion component normalised over all Gaussians, which leaves next
            to no rotation. "normalized" for weights trained after it.

        anchor: what positions are counted from. "origin" as published; "ray" from where the pixel's ray
            passes the origin most closely, so that learning begins with splats that are seen where they
            should be.

    Source: LGM (arXiv 2402.05054), section 3.
    """

    @register_to_config
    def __init__(
        self,
        input_size: int = 256,
        in_channels: int = 9,
        out_channels: int = 14,
        down_channels: tuple[int, ...] = (64, 128, 256, 512, 1024, 1024),
        down_attention: tuple[bool, ...] = (False, False, False, True, True, True),
        mid_attention: bool = True,
        up_channels: tuple[int, ...] = (1024, 1024, 512, 256, 128),
        up_attention: tuple[bool, ...] = (True, True, True, False, False),
        layers_per_block: int = 2,
        attention_heads: int = 16,
        skip_scale: float = math.sqrt(0.5),
        rotation: Literal["identity", "normalized"] = "identity",
        anchor: Literal["origin", "ray"] = "origin",
    ) -> None:
        super().__init__()
        self.unet = _UNet(
            in_channels,
            out_channels,
            down_channels,
            down_attention,
            mid_attention,
            up_channels,
            up_attention,
            layers_per_block,
            attention_heads,
            skip_scale,
        )
        self.conv = nn.Conv2d(out_channels, out_channels, 1)

    config: Any

    def forward(self, images: Tensor) -> Tensor:  # [B, V, 9, H, W] -> [B, V, 14, h, w]
        """Raw Gaussian features of every output pixel.

        Args:
            images: per view the ImageNet-normalised image (3), then `plucker_rays` (6) of its camera in the
                reconstructor's frame (`backend.cameras.reconstruction_cameras`).
        """
        num_views = images.shape[1]
        features = self.conv(self.unet(images.flatten(0, 1), num_views)).unflatten(0, (-1, num_views))
        if self.config.anchor == "ray":
            moment, direction = images[:, :, 3:].split(3, dim=2)
            nearest = torch.linalg.cross(direction, moment, dim=2).flatten(0, 1)
            nearest = F.interpolate(nearest, features.shape[-2:], mode="area").unflatten(0, (-1, num_views))
            features = torch.cat([features[:, :, :3] + nearest, features[:, :, 3:]], dim=2)
        return features

    def gaussians(self, features: Tensor) -> Gaussians:  # [B, V, 14, h, w]
        """Activates the features: one Gaussian per output pixel, in the reconstructor's frame."""
        flat = features.permute(0, 1, 3, 4, 2).flatten(1, 3)  # [B, N, 14]
        means, opacities, scales, quats, rgb = flat.split([3, 1, 3, 4, 3], dim=-1)
        if self.config.rotation == "normalized":
            quats = F.normalize(quats, dim=-1)
        else:
            quats = torch.zeros_like(quats)
            quats[..., 0] = 1.0
        return Gaussians(
            means=means.clamp(-1.0, 1.0),
            opacities=opacities.squeeze(-1).sigmoid(),
            scales=0.1 * F.softplus(scales),
            quats=quats,
            rgb=0.5 * rgb.tanh() + 0.5,
        )


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(_NORM_GROUPS, channels), channels, eps=1e-5)


class _UNet(nn.Module):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        down_channels: tuple[int, ...],
        down_attention: tuple[bool, ...],
        mid_attention: bool,
        up_channels: tuple[int, ...],
        up_attention: tuple[bool, ...],
        layers: int,
        heads: int,
        skip_scale: float,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"heads": heads, "skip_scale": skip_scale}
        self.conv_in = nn.Conv2d(in_channels, down_channels[0], 3, padding=1)

        self.down_blocks = nn.ModuleList()
        width, skip_widths = down_channels[0], [down_channels[0]]
        for i, (channels, attends) in enumerate(zip(down_channels, down_attention, strict=True)):
            inputs = [width] + [channels] * (layers - 1)
            halves = i < len(down_channels) - 1
            self.down_blocks.append(_DownBlock(inputs, channels, attends, downsample=halves, **options))
            skip_widths += [channels] * (layers + halves)
            width = channels

        self.mid_block = _Block([width, width], width, attentions=int(mid_attention), **options)

        self.up_blocks = nn.ModuleList()
        for i, (channels, attends) in enumerate(zip(up_channels, up_attention, strict=True)):
            inputs = [skip_widths.pop() + (channels if j else width) for j in range(layers + 1)]
            doubles = i < len(up_channels) - 1
            self.up_blocks.append(_UpBlock(inputs, channels, attends, upsample=doubles, **options))
            width = channels

        self.norm_out = _norm(width)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, x: Tensor, num_views: int) -> Tensor:  # [B * V, C, H, W]
        x = self.conv_in(x)
        skips = [x]
        for block in self.down_blocks:
            x = block(x, num_views, skips)
        x = self.mid_block(x, num_views)
        for block in self.up_blocks:
            x = block(x, num_views, skips)
        return self.conv_out(F.silu(self.norm_out(x)))


class _Block(nn.Module):
    """Residual layers, the first `attentions` of them followed by attention over all views."""

    def __init__(
        self, in_channels: list[int], channels: int, attentions: int, heads: int, skip_scale: float
    ) -> None:
        super().__init__()
        self.nets = nn.ModuleList(_ResnetBlock(width, channels, skip_scale) for width in in_channels)
        self.attns = nn.ModuleList(_MVAttention(channels, heads, skip_scale) for _ in range(attentions))

    def layer(self, i: int, x: Tensor, num_views: int) -> Tensor:
        x = self.nets[i](x)
        return self.attns[i](x, num_views) if i < len(self.attns) else x

    def forward(self, x: Tensor, num_views: int) -> Tensor:
        for i in range(len(self.nets)):
            x = self.layer(i, x, num_views)
        return x


class _DownBlock(_Block):
    def __init__(
        self,
        in_channels: list[int],
        channels: int,
        attends: bool,
        downsample: bool,
        heads: int,
        skip_scale: float,
    ) -> None:
        super().__init__(in_channels, channels, attends * len(in_channels), heads, skip_scale)
        self.downsample = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if downsample else None

    def forward(self, x: Tensor, num_views: int, skips: list[Tensor]) -> Tensor:  # type: ignore[override]
        for i in range(len(self.nets)):
            x = self.layer(i, x, num_views)
            skips.append(x)
        if self.downsample is not None:
            x = self.downsample(x)
            skips.append(x)
        return x


class _UpBlock(_Block):
    def __init__(
        self,
        in_channels: list[int],
        channels: int,
        attends: bool,
        upsample: bool,
        heads: int,
        skip_scale: float,
    ) -> None:
        super().__init__(in_channels, channels, attends * len(in_channels), heads, skip_scale)
        self.upsample = nn.Conv2d(channels, channels, 3, padding=1) if upsample else None

    def forward(self, x: Tensor, num_views: int, skips: list[Tensor]) -> Tensor:  # type: ignore[override]
        for i in range(len(self.nets)):
            x = self.layer(i, torch.cat([x, skips.pop()], dim=1), num_views)
        if self.upsample is not None:
            x = self.upsample(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class _ResnetBlock(nn.Module):
    def __init__(self, in_channels: int, channels: int, skip_scale: float) -> None:
        super().__init__()
        self.norm1 = _norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.norm2 = _norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)
        self.skip_scale = skip_scale

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return (y + self.shortcut(x)) * self.skip_scale


class _MVAttention(nn.Module):
    """Self-attention over the pixels of all views together."""

    def __init__(self, channels: int, heads: int, skip_scale: float) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.attn = _Attention(channels, heads)
        self.skip_scale = skip_scale

    def forward(self, x: Tensor, num_views: int) -> Tensor:  # [B * V, C, H, W]
        size = x.shape[-2:]
        tokens = self.norm(x).unflatten(0, (-1, num_views)).flatten(3).permute(0, 1, 3, 2).flatten(1, 2)
        tokens = self.attn(tokens)  # [B, V * H * W, C]
        y = tokens.unflatten(1, (num_views, *size)).flatten(0, 1).permute(0, 3, 1, 2)
        return (y + x) * self.skip_scale


class _Attention(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, L, C]
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
