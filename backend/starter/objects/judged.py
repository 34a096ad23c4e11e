"""Trains the judge of the wider world, on true images of its named objects."""

from __future__ import annotations

from pathlib import Path

import torch

from ...training.image_grid import write_image_grid
from ...training.loop import Batch
from ..judges import WorldClassifier, as_seen
from ..train_judge import disturbed
from .pictures import PHOTOS, VIEWS, Pictures, on_grey
from .vocabulary import CATEGORIES, COLORS


def make_judge() -> WorldClassifier:
    """Names one of all categories and one of all colours."""
    return WorldClassifier(tuple(CATEGORIES), tuple(COLORS))


def batch_of(world: Pictures, judge: WorldClassifier, generator: torch.Generator, size: int) -> Batch:
    """Random images of named objects; half of them blurred, all of them noisy, so that details alone decide
    nothing."""
    objects = torch.randint(len(world), (size,), generator=generator).tolist()
    views = torch.randint(VIEWS + PHOTOS, (size,), generator=generator).tolist()
    rgba = torch.stack([world.image(*which) for which in zip(objects, views, strict=True)])
    images = on_grey(rgba)
    named = [world.items[i] for i in objects]
    return {
        "images": disturbed(as_seen(images), generator),
        "category": torch.tensor([judge.config.categories.index(item.category) for item in named]),
        "color": torch.tensor([judge.config.colors.index(item.color) for item in named]),
    }


def show(judge: WorldClassifier, held_out: Pictures, path: Path) -> float:
    """Writes the objects whose views it named wrong; returns the part of objects it names right in full."""
    count = len(held_out)
    views = held_out.images(torch.arange(count), torch.arange(VIEWS).expand(count, -1))
    images = on_grey(views)
    names = judge.name(images)
    right = torch.tensor(
        [name == (item.category, item.color) for name, item in zip(names, held_out.items, strict=True)]
    )
    if (~right).any():
        write_image_grid(path, images[~right][:12])
    return right.float().mean().item()
