"""Trains the judge of the wider world, on true images of its named objects."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...training.image_grid import write_image_grid
from ...training.loop import Batch
from ..judges import WorldClassifier
from ..train_judge import disturbed
from .pictures import PHOTOS, VIEWS, Pictures, on_grey
from .vocabulary import CATEGORIES, COLORS

SEEN_PX = 96  # what the judge sees of an image: enough to name it, and not its finest edges


def make_judge() -> WorldClassifier:
    """Names one of all categories and one of all colours."""
    return WorldClassifier(tuple(CATEGORIES), tuple(COLORS))


def as_seen(images: Tensor) -> Tensor:  # [..., 3, H, W] -> [..., 3, 96, 96]
    """Images at the size that the judge has learnt at."""
    flat = F.interpolate(images.flatten(0, -4), (SEEN_PX, SEEN_PX), mode="bilinear", antialias=True)
    return flat.unflatten(0, images.shape[:-3])


def batch_of(world: Pictures, judge: WorldClassifier, generator: torch.Generator, size: int) -> Batch:
    """Random images of named objects; half of them blurred, all of them noisy, so that details alone decide
    nothing."""
    objects = torch.randint(len(world), (size,), generator=generator).tolist()
    views = torch.randint(VIEWS + PHOTOS, (size,), generator=generator).tolist()
    rgba = torch.stack([world.image(*which) for which in zip(objects, views, strict=True)])
    images = as_seen(on_grey(rgba))
    named = [world.items[i] for i in objects]
    return {
        "images": disturbed(images, generator),
        "category": torch.tensor([judge.config.categories.index(item.category) for item in named]),
        "color": torch.tensor([judge.config.colors.index(item.color) for item in named]),
    }


def show(judge: WorldClassifier, held_out: Pictures, path: Path) -> float:
    """Writes the objects whose views it named wrong; returns the part of objects it names right in full."""
    count = len(held_out)
    views = held_out.images(torch.arange(count), torch.arange(VIEWS).expand(count, -1))
    images = as_seen(on_grey(views))
    names = judge.name(images)
    right = torch.tensor(
        [name == (item.category, item.color) for name, item in zip(names, held_out.items, strict=True)]
    )
    if (~right).any():
        write_image_grid(path, images[~right][:12])
    return right.float().mean().item()
