"""The network that tells the object in a photograph from its background."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from transformers import SwinBackbone, SwinConfig

_STRIDES = (4, 8, 16, 32)  # of the backbone's four stages, in pixels


class BiRefNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Bilateral reference network: a Swin transformer, and a decoder that sees the image at every level.

    The defaults are the published general model. Parameter names are those of its file but for the backbone,
    which is transformers'; what only its training uses is left out.

    Args:
        embed_dim, depths, num_heads, window_size: of the Swin transformer.
        inner: channels inside a decoder's block.
        branch: channels of each of its parallel convolutions.

    Source: BiRefNet (arXiv 2401.03407), and its released inference.
    """

    config: Any

    @register_to_config
    def __init__(
        self,
        embed_dim: int = 192,
        depths: tuple[int, ...] = (2, 2, 18, 2),
        num_heads: tuple[int, ...] = (6, 12, 24, 48),
        window_size: int = 12,
        inner: int = 64,
        branch: int = 256,
    ) -> None:
        super().__init__()
        swin: dict[str, Any] = {
            "image_size": 1024,
            "embed_dim": embed_dim,
            "depths": list(depths),
            "num_heads": list(num_heads),
            "window_size": window_size,
            "drop_path_rate": 0.0,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
        }
        backbone: Any = SwinBackbone(SwinConfig(**swin))
        backbone.swin.layernorm = nn.Identity()  # every stage has its own
        self.bb = backbone
        widths = [2 * embed_dim * 2**i for i in range(4)]  # the image at two sizes
        sizes = inner, branch
        self.squeeze_module = nn.Sequential(DecoderBlock(sum(widths), widths[3], *sizes))
        self.decoder = Decoder(widths, *sizes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, 1, H, W] of what is object in images [B, 3, H, W].

        Args:
            images: normalised as ImageNet's; their sides are multiples of 64.
        """
        half = resized(images, (images.shape[-2] // 2, images.shape[-1] // 2))
        stages = [
            torch.cat([large, resized(small, large.shape[-2:])], dim=1)
            for large, small in zip(self.bb(images).feature_maps, self.bb(half).feature_maps, strict=True)
        ]
        deepest = torch.cat([resized(stage, stages[3].shape[-2:]) for stage in stages], dim=1)
        return self.decoder(images, [*stages[:3], self.squeeze_module(deepest)])


class Decoder(nn.Module):
    """From the deepest features up to the image, level by level.

    Levels are numbered from 4, the deepest, as in the published files.
    """

    def __init__(self, widths: list[int], inner: int, branch: int) -> None:
        super().__init__()
        finest = widths[0] // 2
        seen = [width // 8 for width in widths]  # channels in which a level sees the image again
        self.ipt_blk5 = InputBlock(3 * _STRIDES[3] ** 2, seen[3])
        self.decoder_block4 = DecoderBlock(widths[3] + seen[3], widths[2], inner, branch)
        for level, below in ((3, seen[3]), (2, seen[2]), (1, seen[1])):
            width = widths[level - 1]
            self.add_module(f"ipt_blk{level + 1}", InputBlock(3 * _STRIDES[level - 1] ** 2, below))
            self.add_module(f"lateral_block{level + 1}", Lateral(width))
            out = widths[level - 2] if level > 1 else finest
            self.add_module(f"decoder_block{level}", DecoderBlock(width + below, out, inner, branch))
        for level in (4, 3, 2):
            gate = nn.Sequential(
                nn.Conv2d(widths[level - 2], 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()
            )
            self.add_module(f"gdt_convs_{level}", gate)
            self.add_module(f"gdt_convs_attn_{level}", nn.Sequential(nn.Conv2d(16, 1, 1)))
        self.ipt_blk1 = InputBlock(3, seen[0])
        self.conv_out1 = nn.Sequential(nn.Conv2d(finest + seen[0], 1, 1))

    def forward(self, images: Tensor, stages: list[Tensor]) -> Tensor:  # [B, 3, H, W], finest first
        h = stages[3]
        for level in (4, 3, 2, 1):
            if level < 4:
                lateral = self.get_submodule(f"lateral_block{level + 1}")
                h = resized(h, stages[level - 1].shape[-2:]) + lateral(stages[level - 1])
            again = self.get_submodule(f"ipt_blk{level + 1}")(as_patches(images, _STRIDES[level - 1]))
            h = self.get_submodule(f"decoder_block{level}")(torch.cat([h, again], dim=1))
            if level > 1:
                outline = self.get_submodule(f"gdt_convs_{level}")(h)
                h = h * self.get_submodule(f"gdt_convs_attn_{level}")(outline).sigmoid()
        h = resized(h, images.shape[-2:])
        return self.conv_out1(torch.cat([h, self.ipt_blk1(images)], dim=1))


class Lateral(nn.Module):
    """The backbone's features as a decoder's level takes them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class InputBlock(nn.Module):
    """The image's pixels as channels, two convolutions without anything between."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1)
        self.conv_out = nn.Conv2d(64, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv1(x))


class DecoderBlock(nn.Module):
    """A narrow bottleneck in which deformable convolutions look around."""

    def __init__(self, in_channels: int, out_channels: int, inner: int, branch: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, inner, 3, padding=1)
        self.bn_in = nn.BatchNorm2d(inner)
        self.dec_att = DeformablePyramid(inner, branch)
        self.conv_out = nn.Conv2d(inner, out_channels, 3, padding=1)
        self.bn_out = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn_out(self.conv_out(self.dec_att(F.relu(self.bn_in(self.conv_in(x))))))


class DeformablePyramid(nn.Module):
    """Deformable convolutions of several sizes and the mean of all pixels, side by side (ASPP)."""

    def __init__(self, channels: int, branch: int) -> None:
        super().__init__()
        self.aspp1 = DeformableBranch(channels, branch, 1)
        self.aspp_deforms = nn.ModuleList(DeformableBranch(channels, branch, size) for size in (1, 3, 7))
        mean = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, branch, 1, bias=False), nn.BatchNorm2d(branch)
        self.global_avg_pool = nn.Sequential(*mean, nn.ReLU())
        self.conv1 = nn.Conv2d(5 * branch, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.aspp1(x), *(deform(x) for deform in self.aspp_deforms)]
        mean = self.global_avg_pool(x).expand(-1, -1, *x.shape[-2:])
        return F.relu(self.bn1(self.conv1(torch.cat([*parts, mean], dim=1))))


class DeformableBranch(nn.Module):
    """A deformable convolution, normed."""

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__()
        self.atrous_conv = DeformableConv(in_channels, out_channels, size)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.atrous_conv(x)))


class DeformableConv(nn.Module):
    """A convolution that works out where each of its taps looks, and how much it counts there.

    Source: Deformable ConvNets v2 (arXiv 1811.11168), equation 1.
    """

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__()
        same = size // 2
        self.offset_conv = nn.Conv2d(in_channels, 2 * size**2, size, padding=same)
        self.modulator_conv = nn.Conv2d(in_channels, size**2, size, padding=same)
        self.regular_conv = nn.Conv2d(in_channels, out_channels, size, padding=same, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        weight = self.regular_conv.weight
        return deformable_conv(x, self.offset_conv(x), 2 * self.modulator_conv(x).sigmoid(), weight)


def deformable_conv(
    x: Tensor,  # [B, C, H, W]
    offsets: Tensor,  # [B, 2 K^2, H, W] in pixels: down and to the right, for each tap row by row
    modulation: Tensor,  # [B, K^2, H, W]
    weight: Tensor,  # [D, C, K, K], K odd
) -> Tensor:  # [B, D, H, W]
    """The modulated deformable convolution that keeps the size; zeros are around the image.

    One tap after the other, so that little memory is needed.
    """
    size, (height, width) = weight.shape[-1], x.shape[-2:]
    places = torch.stack(
        torch.meshgrid(
            torch.arange(height, device=x.device), torch.arange(width, device=x.device), indexing="ij"
        )
    )
    # grid_sample's places, -1..1 from edge to edge of the image; in float32, where a pixel of 1024 counts
    scale = torch.tensor([height, width], device=x.device).view(2, 1, 1) / 2
    out = x.new_zeros(len(x), len(weight), height, width)
    for tap in range(size**2):
        row, column = divmod(tap, size)
        shift = torch.tensor([row, column], device=x.device).view(2, 1, 1) - size // 2
        where = (places + shift + offsets[:, 2 * tap : 2 * tap + 2].float() + 0.5) / scale - 1
        grid = where.flip(1).movedim(1, -1)  # [B, H, W, 2], x and y
        seen = F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        seen = seen.to(x.dtype) * modulation[:, tap : tap + 1]
        out = out + F.conv2d(seen, weight[:, :, row, column, None, None])
    return out


def resized(x: Tensor, size: Any) -> Tensor:
    """Bilinear, from corner to corner: as everywhere in this network."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def as_patches(images: Tensor, stride: int) -> Tensor:  # [B, 3, H, W] -> [B, 3 S^2, H / S, W / S]
    """The image cut into S x S large parts, which lie upon each other as channels."""
    height, width = images.shape[-2] // stride, images.shape[-1] // stride
    parts = images.unflatten(-1, (stride, width)).unflatten(-3, (stride, height))  # [B, 3, S, h, S, w]
    return parts.transpose(3, 4).flatten(1, 3)
