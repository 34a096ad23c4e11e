"""Images to the small latents in which models work, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor


def encode(autoencoder: AutoencoderKL, images: Tensor) -> Tensor:  # [N, 3, H, W] sRGB 0..1 -> [N, C, h, w]
    """Scaled latents of images: the mean of the posterior, so equal images have equal latents.

    An autoencoder that makes larger images than it sees is shown them reduced.
    """
    seen, made = (_block_side(autoencoder.config, which) for which in ("in_channels", "out_channels"))
    images = F.avg_pool2d(images, made // seen)
    pixels = unshuffled(autoencoder, 2 * images - 1).to(autoencoder.dtype)
    # Of images whose channels lie last in memory, torch norms groups in as many parts as it has threads.
    pixels = pixels.contiguous()
    return autoencoder.encode(pixels).latent_dist.mean * autoencoder.config["scaling_factor"]


def decode(autoencoder: AutoencoderKL, latents: Tensor) -> Tensor:  # [N, C, h, w] -> [N, 3, H, W] sRGB 0..1
    """Images of scaled latents."""
    return decode_unlimited(autoencoder, latents).clamp(0, 1)


def decode_unlimited(autoencoder: AutoencoderKL, latents: Tensor) -> Tensor:  # as `decode`
    """The same, brighter than white and darker than black where it comes out so: as a decoder is trained."""
    latents = (latents / autoencoder.config["scaling_factor"]).to(autoencoder.dtype)
    return (shuffled(autoencoder, autoencoder.decode(latents).sample.float()) + 1) / 2


def latent_size(config: Mapping[str, Any], size_px: int) -> tuple[int, int, int]:
    """Channels, height and width of the latents of square images, by an autoencoder of that config."""
    side = size_px // _block_side(config, "out_channels") >> len(config["block_out_channels"]) - 1
    return config["latent_channels"], side, side


def unshuffled(autoencoder: AutoencoderKL, pixels: Tensor) -> Tensor:  # [N, 3, H, W] -> [N, 3 k², H/k, W/k]
    """Blocks of pixels as channels, if that is what the autoencoder was made for: fewer pixels cost less."""
    return F.pixel_unshuffle(pixels, _block_side(autoencoder.config, "in_channels"))


def shuffled(autoencoder: AutoencoderKL, blocks: Tensor) -> Tensor:  # [N, 3 k², H/k, W/k] -> [N, 3, H, W]
    """The pixels that are in an autoencoder's channels."""
    return F.pixel_shuffle(blocks, _block_side(autoencoder.config, "out_channels"))


def _block_side(config: Mapping[str, Any], which: str) -> int:
    return math.isqrt(config.get(which, 3) // 3)
