"""The wider world as a denoiser learns it: latents of all images, and small photos to be conditioned on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from ...gaussians.color import over
from ...pipelines import latents as coding
from ...training.denoiser import ViewsStage
from ...training.loop import Batch
from ..dataset import GREY, save_whole
from .pictures import PHOTOS, VIEWS, Pictures

PHOTO_PX = 64  # of what the image encoder sees
TOLD_BY_IMAGE = 0.5  # part of the named objects; all of the others are
TEXT_DROPOUT, TEXT_DROPOUT_BESIDE_IMAGE = 0.1, 0.5
MEANING_DROPOUT = 0.1  # of what the image encoder saw, for its guidance; the image's latents stay


@dataclass(frozen=True)
class Encoded:
    """Every image of some objects, encoded."""

    latents: Tensor  # [N, V + P, C, h, w] half precision, unscaled
    photos: Tensor  # [N, P, 3, S, S] uint8, on grey
    photo_views: Tensor  # [N, P] int64: the view of the orbit that has a photo's azimuth

    @property
    def spread(self) -> float:
        """Standard deviation of all latents."""
        return self.latents[::7].float().std().item()


@torch.no_grad()
def encode(autoencoder: AutoencoderKL, pictures: Pictures, path: Path) -> Encoded:
    """Encodes all images, or reads what was encoded before; whole or not at all."""
    if not path.exists():
        latents, photos = [], []
        for item in tqdm(range(len(pictures)), "encoding", unit="object"):
            rgba = torch.stack([pictures.image(item, view) for view in range(VIEWS + PHOTOS)])
            images = over(rgba.float() / 255, GREY)
            latents.append(coding.encode(autoencoder, images).half() / autoencoder.config["scaling_factor"])
            small = F.interpolate(images[VIEWS:], (PHOTO_PX, PHOTO_PX), mode="bilinear", antialias=True)
            photos.append((small * 255).round().to(torch.uint8))
        views = torch.tensor([[photo.view for photo in item.photos] for item in pictures.items])
        save_whole(
            {"latents": torch.stack(latents), "photos": torch.stack(photos), "photo_views": views}, path
        )
    return Encoded(**load_file(path))


def batch_of(
    world: Encoded,
    orbit: Tensor,  # [V, 4, 4] the cameras of the views
    tokens: Tensor,  # [N, L] of the captions
    no_tokens: Tensor,  # [L] of no caption
    stage: ViewsStage,
    generator: torch.Generator,
    size: int,
) -> Batch:
    """Random objects that are asked for by text, by a photo, or by both.

    A photo is always taken from the front: the orbit begins at its azimuth. Without one, it begins at the
    front of the object.
    """

    def chance(part: float | Tensor) -> Tensor:  # [B] bool
        return torch.rand(size, generator=generator) < part

    objects = torch.randint(len(world.latents), (size,), generator=generator)
    named = (tokens[objects] != no_tokens).any(1)
    by_image = chance(TOLD_BY_IMAGE) | ~named
    by_text = named & ~chance(torch.where(by_image, TEXT_DROPOUT_BESIDE_IMAGE, TEXT_DROPOUT))
    photo = torch.randint(PHOTOS, (size,), generator=generator)
    anywhere = torch.randint(VIEWS, (size,), generator=generator)
    front = torch.zeros_like(anywhere) if stage.cameras else anywhere
    first = torch.where(by_image, world.photo_views[objects, photo], front)
    step = VIEWS // stage.views
    seen = (first[:, None] + torch.arange(0, VIEWS, step)) % VIEWS  # [B, V]
    scale = 1 / world.spread
    latents = scale * world.latents[objects[:, None], seen].float().transpose(1, 2)
    image_latents = scale * world.latents[objects, VIEWS + photo].float()
    return {
        "latents": latents,
        "tokens": torch.where(by_text[:, None], tokens[objects], no_tokens),
        "cameras": orbit[::step].expand(size, -1, -1, -1),
        "noise": torch.randn(latents.shape, generator=generator),
        "timesteps": torch.randint(1000, (size,), generator=generator),
        "image_latents": image_latents * by_image[:, None, None, None],
        "photos": world.photos[objects, photo].float() / 255,
        "has_meaning": (by_image & ~chance(MEANING_DROPOUT)).float(),
    }
