"""Trains the judge of the starter, on true images of objects that the starter has never seen."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..gaussians.color import over
from ..training.image_grid import write_image_grid
from ..training.loop import Batch
from .dataset import GREY, WorldViews
from .judges import WorldClassifier


class ClassifierObjective(nn.Module):
    """Both names are right, also in images that are a little soft or noisy."""

    def __init__(self, classifier: WorldClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor, category: Tensor, color: Tensor) -> Tensor:
        categories, colors = self.classifier(images)
        return F.cross_entropy(categories.float(), category) + F.cross_entropy(colors.float(), color)


def batch_of(world: WorldViews, judge: WorldClassifier, generator: torch.Generator, size: int) -> Batch:
    """Random images; half of them blurred, all of them noisy, so that details alone decide nothing."""
    count, views = world.rgba.shape[:2]
    objects = torch.randint(count, (size,), generator=generator)
    images = over(world.images(objects, torch.randint(views, (size, 1), generator=generator)), GREY)[:, 0]
    return {
        "images": disturbed(images, generator),
        "category": torch.tensor([judge.config.categories.index(world.categories[i]) for i in objects]),
        "color": torch.tensor([judge.config.colors.index(world.colors[i]) for i in objects]),
    }


def disturbed(images: Tensor, generator: torch.Generator) -> Tensor:  # [N, 3, H, W]
    """Images of which half are blurred and all are noisy."""
    half = len(images) // 2
    small = F.interpolate(images[:half], scale_factor=0.5, mode="area")
    soft = torch.cat([F.interpolate(small, images.shape[-2:], mode="bilinear"), images[half:]])
    return soft + 0.04 * torch.rand((), generator=generator) * torch.randn(soft.shape, generator=generator)


def show(judge: WorldClassifier, world: WorldViews, path: Path) -> float:
    """Writes the images that it got wrong; returns the part of single views it names right in full."""
    images = over(world.rgba[:, ::4].float() / 255, GREY)
    truth = [
        pair for pair in zip(world.categories, world.colors, strict=True) for _ in range(images.shape[1])
    ]
    single = images.flatten(0, 1)[:, None]
    names = [name for part in single.split(64) for name in judge.name(part)]
    right = torch.tensor([name == true for name, true in zip(names, truth, strict=True)])
    if (~right).any():
        write_image_grid(path, single[~right][:12].transpose(0, 1))
    return right.float().mean().item()
