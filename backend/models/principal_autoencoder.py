"""An autoencoder with a linear encoder: what a denoiser is unsure of decodes as a blur of the true colour."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import Decoder, DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

_CERTAIN = -30.0  # logarithm of the variance of latents that are not drawn


class PrincipalAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Latents are the principal components of square patches, each in units of its standard deviation
    (`spread`); diffusers' decoder adds what they leave out.

    It takes the place of `AutoencoderKL`, with its arguments, `encode` and `decode`. The components need
    seconds to be found, where a network that encodes 192 px images in 12 × 12 latents needed hours on a CPU
    to come as near. The decoder's network begins at nothing, and then decodes what the components alone say.
    """

    spread: Tensor  # [latent channels]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 12,
        out_channels: int = 12,
        block_out_channels: tuple[int, ...] = (32, 64, 96, 128),
        layers_per_block: int = 1,
        latent_channels: int = 24,
        norm_num_groups: int = 8,
        sample_size: int = 96,
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        side = 2 ** (len(block_out_channels) - 1)
        self.components = nn.Conv2d(in_channels, latent_channels, side, side, bias=False)
        self.components.requires_grad_(False)
        self.register_buffer("spread", torch.ones(latent_channels))
        self.decoder = Decoder(
            in_channels=latent_channels,
            out_channels=out_channels,
            up_block_types=("UpDecoderBlock2D",) * len(block_out_channels),
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            mid_block_add_attention=False,
        )
        nn.init.zeros_(self.decoder.conv_out.weight)
        nn.init.zeros_(self.decoder.conv_out.bias)  # type: ignore[arg-type]

    @torch.no_grad()
    def learn_components(self, pixels: Tensor) -> None:  # [N, C, H, W], -1..1
        """Finds the components of images, grey (0) being their middle."""
        _, channels, side, _ = self.components.weight.shape
        patches = F.unfold(pixels, side, stride=side).transpose(1, 2).flatten(0, 1)
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))  # smallest first
        count = len(self.components.weight)
        basis = directions.flip(1)[:, :count].T
        self.components.weight.copy_(basis.reshape(count, channels, side, side))
        self.spread.copy_(variances.flip(0)[:count].sqrt())

    def encode(self, pixels: Tensor) -> AutoencoderKLOutput:  # [N, C, H, W], -1..1
        """Unscaled latents [N, latent channels, h, w], as a distribution without spread."""
        mean = self.components(pixels) / self.spread[:, None, None]
        certain = torch.full_like(mean, _CERTAIN)
        return AutoencoderKLOutput(DiagonalGaussianDistribution(torch.cat([mean, certain], 1)))

    def decode(self, latents: Tensor) -> DecoderOutput:  # [N, latent channels, h, w], unscaled
        """Images [N, C, H, W], -1..1."""
        side = self.components.kernel_size[0]
        plain = F.conv_transpose2d(latents * self.spread[:, None, None], self.components.weight, stride=side)
        return DecoderOutput(plain + self.decoder(latents))
