"""Pictures to the small latents in which models work, and back."""

from __future__ import annotations

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor


def encode(autoencoder: AutoencoderKL, images: Tensor) -> Tensor:  # [N, 3, H, W] sRGB 0..1 -> [N, C, h, w]
    """Scaled latents of pictures: the mean, so that the same pictures give the same latents."""
    images = (2 * images - 1).to(autoencoder.dtype)
    return autoencoder.encode(images).latent_dist.mean * autoencoder.config["scaling_factor"]


def decode(autoencoder: AutoencoderKL, latents: Tensor) -> Tensor:  # [N, C, h, w] -> [N, 3, H, W] sRGB 0..1
    """Pictures of scaled latents."""
    latents = (latents / autoencoder.config["scaling_factor"]).to(autoencoder.dtype)
    return ((autoencoder.decode(latents).sample.float() + 1) / 2).clamp(0, 1)


def latent_size(autoencoder: AutoencoderKL, size_px: int) -> tuple[int, int, int]:
    """Channels, height and width of the latents of square pictures."""
    halvings = len(autoencoder.config["block_out_channels"]) - 1
    return autoencoder.config["latent_channels"], size_px >> halvings, size_px >> halvings
