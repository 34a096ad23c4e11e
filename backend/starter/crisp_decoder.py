"""Trains the decoder of the 192 px starter: crisp images from latents that may be a little wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..models.principal_autoencoder import PrincipalAutoencoder
from ..pipelines.latents import encode
from ..training.loop import Batch
from .autoencoder import difference
from .objects.pictures import PHOTOS, VIEWS, Pictures, on_grey

CROP_PX = 128  # all of the network is convolutions, so it may learn on parts
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
        return difference(coder, latents + strength * torch.randn_like(latents), images)


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
