"""Trains the autoencoder that turns images into the small latents in which views are denoised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from ..gaussians.color import over
from ..pipelines.latents import decode, encode
from ..training.image_grid import write_image_grid
from ..training.loop import Batch
from .dataset import GREY, WorldViews

CROP_PX = 64  # all of the net is convolutions, so it may learn on parts
KL_WEIGHT = 1e-4
EDGE_WEIGHT = 1.0
LATENT_NOISE = 0.05  # of the latents' own spread
LEAST_STRENGTH = 0.8  # of what latents differ from those of plain grey by


class AutoencoderObjective(nn.Module):
    """Images come back as they were, and so do their edges; latents stay near a normal distribution."""

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor) -> Tensor:  # [B, 3, H, W] sRGB 0..1
        posterior = self.autoencoder.encode(2 * images - 1).latent_dist
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return _difference(self.autoencoder, posterior.sample(), images) + KL_WEIGHT * kl


class DecoderObjective(nn.Module):
    """The same for the decoder alone: latents, and all networks that know them, stay as they are.

    The latents are a little noisy and weak, as those are that come out of a denoiser: it is least sure of
    small parts, and nearer to the background there than it should be. Where the strength of a latent decides
    its colour, a weak one would be of another.
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        for name, parameter in autoencoder.named_parameters():
            parameter.requires_grad_(name.startswith(("decoder.", "post_quant_conv.")))

    def forward(self, images: Tensor) -> Tensor:  # [B, 3, H, W] sRGB 0..1
        with torch.no_grad():
            latents = self.autoencoder.encode(2 * images - 1).latent_dist.mean
            plain = self.autoencoder.encode(torch.zeros_like(images[:1])).latent_dist.mean
            strength = torch.empty_like(latents[:, :1, :1, :1]).uniform_(LEAST_STRENGTH, 1)
            latents = plain + strength * (latents - plain)
            latents = latents + LATENT_NOISE * latents.std() * torch.randn_like(latents)
        return _difference(self.autoencoder, latents, images)


def _difference(autoencoder: AutoencoderKL, latents: Tensor, images: Tensor) -> Tensor:
    """How much of the images, and of their edges, does not come back."""
    error = (autoencoder.decode(latents).sample.float() + 1) / 2 - images
    across = (error[..., 1:] - error[..., :-1]).abs().mean()
    down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return error.abs().mean() + EDGE_WEIGHT * (across + down)


def batch_of(
    images: Sequence[Tensor],  # each [N, 4, H, W] uint8, sRGB, straight alpha
    generator: torch.Generator,
    size: int,
) -> Batch:
    """Random parts of random images, of each set about as many."""
    crops = []
    for _ in range(size):
        some = images[int(torch.randint(len(images), (1,), generator=generator))]
        count, _, height, width = some.shape
        i = int(torch.randint(count, (1,), generator=generator))
        y, x = (int(torch.randint(side - CROP_PX + 1, (1,), generator=generator)) for side in (height, width))
        crops.append(some[i, :, y : y + CROP_PX, x : x + CROP_PX])
    return {"images": over(torch.stack(crops).float() / 255, GREY)}


def show(autoencoder: AutoencoderKL, world: WorldViews, path: Path) -> float:
    """Writes held-out images above what comes back; returns the mean PSNR over all of `world`, in dB."""
    images = over(world.rgba[:, ::4].flatten(0, 1).float() / 255, GREY)
    back = torch.cat([decode(autoencoder, encode(autoencoder, part)) for part in images.split(32)])
    psnr = -10 * (back - images).square().mean((1, 2, 3)).log10()
    rows = torch.stack([images[:12], back[:12]])
    write_image_grid(path, rows)
    return psnr.mean().item()
