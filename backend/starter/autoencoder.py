"""Trains the autoencoder that turns images into the small latents in which views are denoised."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from ..evaluation.image_quality import psnr
from ..gaussians.color import over
from ..gaussians.likeness import contrast_difference, difference
from ..pipelines.latents import decode, decode_unlimited, encode
from ..training.image_grid import write_image_grid
from ..training.loop import Batch
from .critic import Critic
from .dataset import GREY, WorldViews

CROP = 2 / 3  # of an image's side: all of the network is convolutions, so it may learn on parts
KL_WEIGHT = 1e-4
LATENT_NOISE = 0.05  # of each channel's own spread
LEAST_STRENGTH = 0.8  # of what latents differ from those of plain grey by
CONTRAST_WEIGHT = 5.0
COLORS_NOISE = 0.15  # of each channel's own spread, at most
COLORS_WEIGHT = 1.0
KEPT_WEIGHT = 0.02


class AutoencoderObjective(nn.Module):
    """Images come back as they were, and so do their edges; latents stay near a normal distribution."""

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor) -> Tensor:  # [B, 3, H, W] sRGB 0..1
        posterior = self.autoencoder.encode(2 * images - 1).latent_dist
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        latents = posterior.sample() * self.autoencoder.config["scaling_factor"]
        return difference(decode_unlimited(self.autoencoder, latents), images) + KL_WEIGHT * kl


class CrispObjective(nn.Module):
    """The same, from latents such as come out of a denoiser: its own, or else a little noisy and weak ones.

    Args:
        critic: learns beside the decoder, and has it make crisp images.
        encodes: the encoder learns too; otherwise latents, and all networks that know them, stay as they are.
    """

    def __init__(
        self, autoencoder: AutoencoderKL, critic: Critic | None = None, *, encodes: bool = False
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.critic = critic
        for name, parameter in autoencoder.named_parameters():
            parameter.requires_grad_(encodes or name.startswith(("decoder.", "post_quant_conv.")))

    def forward(
        self,
        images: Tensor,  # [B, 3, H, W] sRGB 0..1
        latents: Tensor | None = None,  # [B, C, h, w]
    ) -> Tensor:
        latents = weakened(self.autoencoder, images) if latents is None else latents
        back = decode_unlimited(self.autoencoder, latents)
        loss = difference(back, images)
        if self.critic:
            loss = loss + CONTRAST_WEIGHT * contrast_difference(back, images)
            loss = loss + self.critic.losses(back, images, loss, self.autoencoder.decoder.conv_out.weight)
        return loss


class ColorsObjective(nn.Module):
    """An autoencoder goes on, while three directions of its latents become the mean colours of their cells.

    What a denoiser has not quite decided is a mean of latents. Along these directions it is decoded to a mean
    of colours; elsewhere orange, a little too weak, was red. All other directions stay near to what they
    were, for the networks that know them.

    Args:
        directions: orthonormal, of latents that colours vary along; and how far, from those of plain grey.
    """

    def __init__(self, autoencoder: AutoencoderKL, directions: Tensor, gain: float) -> None:  # [3, C]
        super().__init__()
        self.autoencoder = autoencoder.requires_grad_(True)
        self.before = copy.deepcopy(autoencoder).requires_grad_(False)
        self.directions = directions
        self.gain = gain

    def forward(self, images: Tensor) -> Tensor:  # [B, 3, H, W] sRGB 0..1
        with torch.no_grad():
            known = encode(self.before, images)
            plain = encode(self.before, torch.full_like(images[:1], GREY)).mean((2, 3), keepdim=True)
            spread = known.std((0, 2, 3), keepdim=True)
        latents = encode(self.autoencoder, images)
        cells = F.avg_pool2d(images, images.shape[-1] // latents.shape[-1]) - GREY
        wanted = self.gain * cells + self._colors(plain)
        kept = (latents - known) - self._along(latents - known)
        noisy = latents + COLORS_NOISE * torch.rand(len(images), 1, 1, 1) * spread * torch.randn_like(latents)
        return (
            difference(decode_unlimited(self.autoencoder, noisy), images)
            + COLORS_WEIGHT / self.gain * (self._colors(latents) - wanted).abs().mean()
            + KEPT_WEIGHT * kept.square().mean()
        )

    def _colors(self, latents: Tensor) -> Tensor:  # [B, C, h, w] to [B, 3, h, w]
        return torch.einsum("dc,bchw->bdhw", self.directions, latents.float())

    def _along(self, latents: Tensor) -> Tensor:  # [B, C, h, w]
        return torch.einsum("dc,bdhw->bchw", self.directions, self._colors(latents))


@torch.no_grad()
def color_directions(autoencoder: AutoencoderKL, images: Tensor) -> tuple[Tensor, float]:  # [N, 3, H, W]
    """The directions of latents nearest to the mean colours of their cells, [3, C]; how far they vary."""
    latents = encode(autoencoder, images).movedim(1, -1)
    plain = encode(autoencoder, torch.full_like(images[:1], GREY)).mean((2, 3))
    cells = F.avg_pool2d(images, images.shape[-1] // latents.shape[1]).movedim(1, -1).flatten(0, 2) - GREY
    along, _, back = torch.linalg.svd(cells.T @ (latents.flatten(0, 2) - plain), full_matrices=False)
    directions = along @ back
    told = (latents.flatten(0, 2) - plain) @ directions.T
    return directions, ((told * cells).sum() / cells.square().sum()).item()


def weakened(autoencoder: AutoencoderKL, images: Tensor) -> Tensor:  # [B, 3, H, W] to [B, C, h, w]
    """Latents with a little noise, and nearer to those of plain grey.

    A denoiser is least sure of small parts, and nearer to the background there than it should be. Where the
    strength of a latent decides its colour, a weak one would be of another.
    """
    latents = encode(autoencoder, images)
    plain = encode(autoencoder, torch.full_like(images[:1], GREY))
    strength = torch.empty_like(latents[:, :1, :1, :1]).uniform_(LEAST_STRENGTH, 1)
    latents = plain + strength * (latents - plain)
    spread = latents.std((0, 2, 3), keepdim=True)
    return latents + LATENT_NOISE * spread * torch.randn_like(latents)


def begin_crisp(crisp: AutoencoderKL, autoencoder: AutoencoderKL) -> None:
    """Weights of an autoencoder, for one whose decoder makes images of twice the size.

    They begin as the small ones enlarged: each pixel becomes four of its kind.
    """
    weights = autoencoder.state_dict()
    for name in ("decoder.conv_out.weight", "decoder.conv_out.bias"):
        blocks = crisp.state_dict()[name].shape[0] // weights[name].shape[0]
        weights[name] = weights[name].repeat_interleave(blocks, dim=0)
    crisp.load_state_dict(weights)
    crisp.register_to_config(scaling_factor=autoencoder.config["scaling_factor"])


def batch_of(
    images: Tensor,  # [N, 4, H, W] uint8, sRGB, straight alpha
    generator: torch.Generator,
    size: int,
) -> Batch:
    """Random parts of random images."""
    count, _, height, width = images.shape
    side = round(CROP * height)
    crops = []
    for _ in range(size):
        i, y, x = (
            int(torch.randint(most, (1,), generator=generator))
            for most in (count, height - side + 1, width - side + 1)
        )
        crops.append(images[i, :, y : y + side, x : x + side])
    return {"images": over(torch.stack(crops).float() / 255, GREY)}


def held_out_images(world: WorldViews) -> Tensor:  # [N, 3, H, W]
    """Every fourth view of all objects."""
    return over(world.rgba[:, ::4].flatten(0, 1).float() / 255, GREY)


def quality(made: Tensor, true: Tensor) -> tuple[float, float]:  # [N, 3, H, W] each
    """Mean PSNR in dB, and sharpness."""
    return psnr(made, true), sharpness(made, true)


def sharpness(made: Tensor, true: Tensor) -> float:  # [..., H, W] each
    """The energy of all gradients, as a part of that of true images: of the same, or others of their kind."""
    return (_gradient_energy(made) / _gradient_energy(true)).item()


def _gradient_energy(images: Tensor) -> Tensor:
    across, down = images.diff(dim=-1), images.diff(dim=-2)
    return across.square().sum() + down.square().sum()


def show(autoencoder: AutoencoderKL, images: Tensor, path: Path) -> float:
    """Writes images [N, 3, H, W] above what comes back; returns their PSNR in dB, prints the sharpness."""
    back = torch.cat([decode(autoencoder, encode(autoencoder, part)) for part in images.split(32)])
    write_image_grid(path, torch.stack([images[:12], back[:12]]))
    decibels, sharp = quality(back, images)
    print(f"held out: {decibels:.2f} dB, sharpness {sharp:.3f}", flush=True)
    return decibels
