"""The wider world as a denoiser learns it: objects that are asked for by text, by a photo, or by both."""

from __future__ import annotations

import torch
from torch import Tensor

from ...training.denoiser import ViewsStage
from ...training.loop import Batch
from .encoded import Encoded
from .pictures import PHOTOS, VIEWS

UNNAMED = 0.25  # part of the objects that are seen from several sides
TOLD_BY_IMAGE = 0.6  # of the named ones among them; all of the others are
TEXT_DROPOUT, TEXT_DROPOUT_BESIDE_IMAGE = 0.1, 0.5
EXACT = 0.6  # part of the images that are one of the views: from those it is learnt first what an image says
MEANING_DROPOUT = 0.1  # of what the image encoder saw, for its guidance; the image's latents stay


def batch_of(
    encoded: Encoded,
    tokens: Tensor,  # [N, L] of the captions
    no_tokens: Tensor,  # [L] of no caption
    stage: ViewsStage,
    generator: torch.Generator,
    size: int,
) -> Batch:
    """Random objects, half of them mirrored, and those without a name in exchanged colours.

    An image is always taken from the front: the orbit begins at its azimuth. It is a photo, or the first view
    itself. Without one, the orbit begins at the front of the object, or at one of the next sides if only some
    are seen. Of a single side an image would say all, so that what is seen from one is asked for by text.
    """

    def chance(part: float | Tensor) -> Tensor:  # [B] bool
        return torch.rand(size, generator=generator) < part

    world = encoded.world
    several = stage.views > 1
    named = ~chance(UNNAMED * several)
    has_name = (tokens != no_tokens).any(1)
    with_name, without = (_any_of(which, generator, size) for which in (has_name, ~has_name))
    objects = torch.where(named, with_name, without)
    by_image = chance(TOLD_BY_IMAGE * several) | ~named
    by_text = named & ~chance(torch.where(by_image, TEXT_DROPOUT_BESIDE_IMAGE, TEXT_DROPOUT))
    photo = torch.randint(PHOTOS, (size,), generator=generator)
    azimuths = torch.tensor(
        [world.items[i].photos[which].view for i, which in zip(objects.tolist(), photo.tolist(), strict=True)]
    )
    exact = chance(EXACT)
    azimuths = torch.where(exact, torch.randint(VIEWS, (size,), generator=generator), azimuths)
    first = torch.where(by_image, azimuths, 0)
    mirrored = chance(0.5)
    step = VIEWS // stage.views
    begun = torch.where(by_image, 0, torch.randint(step, (size,), generator=generator))
    turned = begun[:, None] + torch.arange(0, VIEWS, step)  # [B, V]
    around = turned * torch.where(mirrored, -1, 1)[:, None]  # a mirror turns the orbit
    image = torch.where(exact, azimuths, VIEWS + photo)
    seen = torch.cat([(first[:, None] + around) % VIEWS, image[:, None]], 1)  # [B, V + 1]
    latents, photos = encoded.seen(objects, mirrored, seen, generator)
    return {
        "latents": latents[:, :, :-1],
        "tokens": torch.where(by_text[:, None], tokens[objects], no_tokens),
        "cameras": world.cameras[turned],
        "noise": torch.randn(latents[:, :, :-1].shape, generator=generator),
        # More often of much noise: there it is decided what an object is, and little of it is known before.
        "timesteps": (1000 * torch.rand(size, generator=generator).sqrt()).long(),
        "image_latents": latents[:, :, -1] * by_image[:, None, None, None],
        "photos": photos,
        "has_meaning": (by_image & ~chance(MEANING_DROPOUT)).float(),
    }


def _any_of(which: Tensor, generator: torch.Generator, size: int) -> Tensor:  # [N] bool -> [B]
    """The numbers of random ones that are."""
    numbers = which.nonzero().squeeze(1)
    return numbers[torch.randint(len(numbers), (size,), generator=generator)]
