"""The encoder of FLUX.2's autoencoder, which gives TripoSplat the details of an image."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import Encoder
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

_PATCH = 2  # latent pixels that one token holds, along each side
_EPS = 1e-5  # as TripoSplat was trained; the autoencoder of diffusers has 1e-4


class Flux2Encoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """`AutoencoderKLFlux2` without its decoder, and then each 2 x 2 patch of latents as one normed token.

    Parameter names are those of `diffusers.AutoencoderKLFlux2`.
    """

    config: Any

    @register_to_config
    def __init__(
        self,
        block_out_channels: tuple[int, ...] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        latent_channels: int = 32,
        norm_num_groups: int = 32,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(
            in_channels=3,
            out_channels=latent_channels,
            down_block_types=("DownEncoderBlock2D",) * len(block_out_channels),
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            double_z=True,
        )
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.bn = _Statistics(_PATCH**2 * latent_channels)

    def noise_shape(self, size_px: int) -> tuple[int, int, int, int]:
        """Of the noise for one square image."""
        side = size_px >> (len(self.config.block_out_channels) - 1)
        return 1, self.config.latent_channels, side, side

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """Tokens [B, L, 4 * latent_channels] of images [B, 3, H, W] in 0..1, sampled with noise, float32."""
        moments = self.quant_conv(self.encoder(2 * images.to(self.dtype) - 1))
        return patch_tokens(moments, noise.to(moments), self.bn.running_mean, self.bn.running_var)


class _Statistics(nn.Module):
    """Mean and variance of every number of a token, over the images it was trained with."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.running_mean = nn.Buffer(torch.zeros(channels))
        self.running_var = nn.Buffer(torch.ones(channels))


def patch_tokens(
    moments: Tensor,  # [B, 2 * C, h, w], mean and log variance
    noise: Tensor,  # [B, C, h, w]
    mean: Tensor,  # [4 * C] of the tokens
    variance: Tensor,  # [4 * C]
) -> Tensor:  # [B, h * w / 4, 4 * C]
    """Samples latents and makes each 2 x 2 patch of them a token."""
    centre, log_variance = moments.chunk(2, dim=1)
    latents = centre + (0.5 * log_variance.clamp(-30, 20)).exp() * noise
    patches = F.pixel_unshuffle(latents, _PATCH).float()
    normed = (patches - mean.float().view(-1, 1, 1)) / (variance.float().view(-1, 1, 1) + _EPS).sqrt()
    return normed.flatten(2).transpose(1, 2)
