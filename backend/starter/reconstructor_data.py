"""Batches of the small world's views, for the starter's reconstructor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..gaussians.color import over
from ..training.loop import Batch
from .dataset import GREY, WorldViews

INPUT_VIEWS = (0, 1, 2, 3)  # of the cameras of a batch; after them come those that are compared
COMPARED_VIEWS = 6


def batch_of(
    world: WorldViews,
    generator: torch.Generator,
    size: int,
    seen: Callable[[Tensor, Tensor, torch.Generator], Tensor] | None = None,
) -> Batch:
    """Random objects, from four cameras a quarter turn apart and from others to compare.

    Args:
        seen: what the reconstructor sees of objects [B] from views [B, 4], [B, 4, 3, H, W]; true images
            if not given.
    """
    count, views = world.rgba.shape[:2]
    objects = torch.randint(count, (size,), generator=generator)
    first = torch.randint(views, (size, 1), generator=generator)
    inputs = (first + torch.arange(0, views, views // len(INPUT_VIEWS))) % views
    compared = torch.rand(size, views, generator=generator).argsort(1)[:, :COMPARED_VIEWS]
    return {
        "images": seen(objects, inputs, generator) if seen else over(world.images(objects, inputs), GREY),
        "targets": world.images(objects, compared),
        "cameras": world.cameras[torch.cat([inputs, compared], 1)],
        "background": torch.rand((), generator=generator),
    }
