"""The wider world's images as latents, encoded once: mirrored too, and in exchanged colours if unnamed."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from ...pipelines.latents import encode
from ..dataset import save_whole
from .pictures import EACH, Pictures, on_grey

PHOTO_PX = 64  # of what the image encoder sees
EXCHANGES = 3  # orders of the three colour channels that an object without a name is seen in
_ORDERS = list(itertools.permutations(range(3)))


@dataclass(frozen=True)
class Encoded:
    """Images of objects, each in `variants`: every second one is mirrored."""

    world: Pictures
    latents: Tensor = field(repr=False)  # [sum of variants, V + photos, C, h, w], half precision
    small: Tensor = field(repr=False)  # [sum of variants, V + photos, 3, S, S] uint8
    first: Tensor = field(repr=False)  # [N + 1], of an object's variants

    def seen(
        self,
        objects: Tensor,  # [B]
        mirrored: Tensor,  # [B]
        views: Tensor,  # [B, V + 1], the last one of the image
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:  # [B, C, V + 1, h, w], [B, 3, S, S] sRGB 0..1
        """Latents, and the images small; of a random order of colours, where there are some."""
        variants = (self.first[objects + 1] - self.first[objects]) // 2
        colors = (torch.rand(len(objects), generator=generator) * variants).long()
        which = self.first[objects] + 2 * colors + mirrored
        latents = self.latents[which[:, None], views].float().transpose(1, 2)
        return latents, self.small[which, views[:, -1]].float() / 255


@torch.no_grad()
def encoded(world: Pictures, autoencoder: AutoencoderKL, path: Path) -> Encoded:
    """All of a world's images by an autoencoder; read from a file if they were encoded before."""
    if not path.exists():
        latents, small, counts = [], [], [0]
        for number, item in enumerate(tqdm(world.items, "encoding", unit="object")):
            rgba = torch.stack([world.image(number, view) for view in range(EACH)])
            images = on_grey(rgba)  # [V + photos, 3, H, W]
            orders = [(0, 1, 2)] if item.caption else random.Random(number).sample(_ORDERS, EXCHANGES)
            variants = torch.stack(
                [some for order in orders for some in (images[:, order], images[:, order].flip(-1))]
            )
            count = len(variants)
            latents.append(
                encode(autoencoder, variants.flatten(0, 1)).half().unflatten(0, (len(variants), -1))
            )
            reduced = F.interpolate(
                variants.flatten(0, 1), (PHOTO_PX, PHOTO_PX), mode="bilinear", antialias=True
            )
            small.append((255 * reduced).round().to(torch.uint8).unflatten(0, (count, -1)))
            counts.append(count)
        first = torch.tensor(counts).cumsum(0)
        save_whole({"latents": torch.cat(latents), "small": torch.cat(small), "first": first}, path)
    found = load_file(path)
    return Encoded(world, found["latents"], found["small"], found["first"])
