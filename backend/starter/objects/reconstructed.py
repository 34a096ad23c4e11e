"""Batches of the wider world's images, for the starter's reconstructor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...training.loop import Batch
from .pictures import VIEWS, Pictures, on_grey

INPUT_VIEWS = (0, 1, 2, 3)  # of the cameras of a batch; after them come those that are compared
COMPARED_PHOTO = 1  # the one that differs from the views in elevation alone


def batch_of(
    world: Pictures,
    generator: torch.Generator,
    size: int,
    seen: Callable[[Tensor, Tensor, torch.Generator], Tensor] | None = None,
) -> Batch:
    """Random objects, from four cameras a quarter turn apart, and from six others to compare.

    Args:
        seen: what the reconstructor sees of objects [B] from views [B, 4], [B, 4, 3, H, W]; true images if
            not given.
    """
    count = len(INPUT_VIEWS)
    objects = torch.randint(len(world), (size,), generator=generator)
    first = torch.randint(VIEWS, (size, 1), generator=generator)
    inputs = (first + torch.arange(0, VIEWS, VIEWS // count)) % VIEWS
    others = torch.cat([(inputs + 1) % VIEWS, inputs[:, :1]], 1)
    orbit = world.cameras
    photos = [world.items[i].photos[COMPARED_PHOTO].camera for i in objects.tolist()]
    compared = torch.cat([others, torch.full((size, 1), VIEWS + COMPARED_PHOTO)], 1)
    return {
        "images": seen(objects, inputs, generator) if seen else on_grey(world.images(objects, inputs)),
        "targets": world.images(objects, compared).float() / 255,
        "cameras": torch.cat([orbit[inputs], orbit[others], torch.stack(photos)[:, None]], 1),
        "background": torch.rand((), generator=generator),
    }
