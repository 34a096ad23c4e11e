"""What the starter's autoencoder learns from: parts of images with the object in them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...training.loop import Batch
from .pictures import PHOTOS, VIEWS, Pictures, on_grey

CROP_PX = 128  # all of the network is convolutions, so it may learn on parts
SHOWN = 64  # held-out images that are measured


def batch_of(pictures: Pictures, generator: torch.Generator, size: int) -> Batch:
    """Random parts of random images, with the object in them; compositions in exchanged colours."""
    crops = []
    for _ in range(size):
        item = int(torch.randint(len(pictures), (1,), generator=generator))
        rgba = pictures.image(item, int(torch.randint(VIEWS + PHOTOS, (1,), generator=generator)))
        inside = rgba[3].nonzero()
        middle = inside[int(torch.randint(len(inside), (1,), generator=generator))] if len(inside) else None
        room = rgba.shape[-1] - CROP_PX
        y, x = (0, 0) if middle is None else ((middle - CROP_PX // 2).clamp(0, room).tolist())
        crop = rgba[:, y : y + CROP_PX, x : x + CROP_PX]
        if not pictures.items[item].caption:
            crop = crop[[*torch.randperm(3, generator=generator).tolist(), 3]]
        crops.append(crop)
    return {"images": on_grey(torch.stack(crops))}


def cropped(images: Tensor, latents: Tensor, generator: torch.Generator) -> Batch:
    """The same random part of images, [B, 3, H, W], and of their latents, [B, C, h, w]."""
    block = images.shape[-1] // latents.shape[-1]
    side = CROP_PX // block
    y, x = torch.randint(latents.shape[-1] - side + 1, (2,), generator=generator).tolist()
    rows, columns = slice(y * block, (y + side) * block), slice(x * block, (x + side) * block)
    return {
        "images": images[..., rows, columns],
        "latents": latents[..., y : y + side, x : x + side],
    }


def held_out_images(pictures: Pictures) -> Tensor:  # [N, 3, H, W]
    """One image of each of some objects, from all sides in turn."""
    some = [pictures.image(i, i % VIEWS) for i in range(min(SHOWN, len(pictures)))]
    return on_grey(torch.stack(some))
