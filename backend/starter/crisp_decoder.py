"""Trains the decoder of the 192 px starter: crisp images from latents that may be a little wrong."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..models.principal_autoencoder import PrincipalAutoencoder
from ..pipelines.latents import decode, decode_unlimited, encode
from ..training.image_grid import write_image_grid
from ..training.loop import Batch
from .objects.pictures import PHOTOS, VIEWS, Pictures, on_grey

CROP_PX = 128  # all of the network is convolutions, so it may learn on parts
EDGE_WEIGHT = 1.0
MOST_NOISE = 0.15  # of scaled latents: what a denoiser gets wrong
SHOWN = 64  # held-out images that are measured


class DecoderObjective(nn.Module):
    """Images and their edges come back from latents with noise of random strength."""

    def __init__(self, autoencoder: PrincipalAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor) -> Tensor:  # [B, 3, H, W] sRGB 0..1
        coder = self.autoencoder
        with torch.no_grad():
            latents = encode(coder, images)
        strength = MOST_NOISE * torch.rand_like(latents[:, :1, :1, :1])
        error = decode_unlimited(coder, latents + strength * torch.randn_like(latents)) - images
        across, down = error.diff(dim=-1).abs().mean(), error.diff(dim=-2).abs().mean()
        return error.abs().mean() + EDGE_WEIGHT * (across + down)


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
    return {"images": on_grey(torch.stack(crops))}


def held_out_images(pictures: Pictures) -> Tensor:  # [N, 3, H, W]
    """One image of each of some objects, from all sides in turn."""
    some = [pictures.image(i, i % VIEWS) for i in range(min(SHOWN, len(pictures)))]
    return on_grey(torch.stack(some))


def quality(made: Tensor, true: Tensor) -> tuple[float, float]:  # [N, 3, H, W] each
    """Mean PSNR in dB, and sharpness: the energy of all gradients, as a part of that of the true images."""
    psnr = -10 * (made - true).square().mean((1, 2, 3)).log10()
    return psnr.mean().item(), (_gradient_energy(made) / _gradient_energy(true)).item()


def _gradient_energy(images: Tensor) -> Tensor:
    across, down = images.diff(dim=-1), images.diff(dim=-2)
    return across.square().sum() + down.square().sum()


def show(autoencoder: PrincipalAutoencoder, pictures: Pictures, path: Path) -> float:
    """Writes held-out images above what comes back; returns their PSNR in dB, prints the sharpness."""
    images = held_out_images(pictures)
    back = torch.cat([decode(autoencoder, encode(autoencoder, part)) for part in images.split(8)])
    write_image_grid(path, torch.stack([images[:10], back[:10]]))
    psnr, sharpness = quality(back, images)
    print(f"held out: {psnr:.2f} dB, sharpness {sharpness:.3f}", flush=True)
    return psnr
