"""Trains the autoencoder of the 192 px starter: crisp images from latents that may be a little wrong."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from ..gaussians.color import over
from ..pipelines.latents import decode, encode, shuffled, unshuffled
from ..training.image_grid import write_image_grid
from ..training.loop import Batch
from .dataset import GREY
from .objects.pictures import PHOTOS, VIEWS, Pictures

CROP_PX = 128  # all of the network is convolutions, so it may learn on parts
EDGE_WEIGHT = 1.0
SIZE_WEIGHT = 1e-3  # of the latents' square: their unit is free, and should not drift
LATENT_NOISE = 0.05  # of the root mean square by which latents differ from those of plain grey
LEAST_STRENGTH = 0.85  # of what latents differ from those of plain grey by
SHOWN = 64  # held-out images that are measured


class SmoothAutoencoderObjective(nn.Module):
    """Images and their edges come back from latents that are noisy and weak, as those of a denoiser are.

    A denoiser is least sure of small parts, and nearer to the background there than it should be. Where the
    strength of a latent decides its colour, a weak one would be of another; so it must not.
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor) -> Tensor:  # [B, 3, H, W] sRGB 0..1
        coder = self.autoencoder
        latents = coder.encode(unshuffled(coder, 2 * images - 1)).latent_dist.mean.float()
        with torch.no_grad():
            plain = coder.encode(
                unshuffled(coder, torch.zeros_like(images[:1, :, :64, :64]))
            ).latent_dist.mean
            plain = plain.float().mean((2, 3), keepdim=True)
        strength = torch.empty_like(latents[:, :1, :1, :1]).uniform_(LEAST_STRENGTH, 1)
        signal = latents - plain
        noise = LATENT_NOISE * signal.detach().square().mean().sqrt() * torch.randn_like(latents)
        disturbed = plain + strength * signal + noise
        back = (shuffled(coder, coder.decode(disturbed).sample.float()) + 1) / 2
        error = back - images
        across = (error[..., 1:] - error[..., :-1]).abs().mean()
        down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        return error.abs().mean() + EDGE_WEIGHT * (across + down) + SIZE_WEIGHT * signal.square().mean()


def batch_of(pictures: Pictures, generator: torch.Generator, size: int) -> Batch:
    """Random parts of random images, with the object in them."""
    crops = []
    for _ in range(size):
        item = int(torch.randint(len(pictures), (1,), generator=generator))
        rgba = pictures.image(item, int(torch.randint(VIEWS + PHOTOS, (1,), generator=generator)))
        inside = rgba[3].nonzero()
        middle = inside[int(torch.randint(len(inside), (1,), generator=generator))] if len(inside) else None
        room = rgba.shape[-1] - CROP_PX
        y, x = (0, 0) if middle is None else ((middle - CROP_PX // 2).clamp(0, room).tolist())
        crops.append(rgba[:, y : y + CROP_PX, x : x + CROP_PX])
    return {"images": over(torch.stack(crops).float() / 255, GREY)}


def held_out_images(pictures: Pictures) -> Tensor:  # [N, 3, H, W]
    """One image of each of some objects, from all sides in turn."""
    some = [pictures.image(i, i % VIEWS) for i in range(min(SHOWN, len(pictures)))]
    return over(torch.stack(some).float() / 255, GREY)


def quality(made: Tensor, true: Tensor) -> tuple[float, float]:  # [N, 3, H, W] each
    """Mean PSNR in dB, and sharpness: the energy of all gradients, as a part of that of the true images."""
    psnr = -10 * (made - true).square().mean((1, 2, 3)).log10()
    return psnr.mean().item(), (_gradient_energy(made) / _gradient_energy(true)).item()


def _gradient_energy(images: Tensor) -> Tensor:
    across, down = images.diff(dim=-1), images.diff(dim=-2)
    return across.square().sum() + down.square().sum()


def show(autoencoder: AutoencoderKL, pictures: Pictures, path: Path) -> float:
    """Writes held-out images above what comes back; returns their PSNR in dB, prints the sharpness."""
    images = held_out_images(pictures)
    back = torch.cat([decode(autoencoder, encode(autoencoder, part)) for part in images.split(8)])
    write_image_grid(path, torch.stack([images[:10], back[:10]]))
    psnr, sharpness = quality(back, images)
    print(f"held out: {psnr:.2f} dB, sharpness {sharpness:.3f}", flush=True)
    return psnr
