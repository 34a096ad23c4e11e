"""Trains the judge of the starter, on true images of named objects of its own: many, from few sides each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from ...cameras import orbit
from ...training.image_grid import write_image_grid
from ...training.loop import Batch
from ..dataset import save_whole
from ..judges import SEEN_PX, WorldClassifier
from ..tracing import render
from .framing import ELEVATION_DEG, FOV_DEG, RADIUS
from .named import make_object
from .pictures import VIEWS, Pictures, on_grey
from .vocabulary import CATEGORIES, COLORS

FIRST = 3_000_000  # the judge's objects are from here on; no denoiser has seen them
SIDES = 2  # of each, opposite ones


@dataclass(frozen=True)
class Images:
    """True images, and what they show."""

    rgb: Tensor = field(repr=False)  # [N, S, 3, h, w] uint8
    category: Tensor  # [N]
    color: Tensor  # [N]


class ClassifierObjective(nn.Module):
    """Both names are right, also in images that are a little soft or noisy."""

    def __init__(self, classifier: WorldClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor, category: Tensor, color: Tensor) -> Tensor:
        categories, colors = self.classifier(images)
        return F.cross_entropy(categories.float(), category) + F.cross_entropy(colors.float(), color)


def make_judge() -> WorldClassifier:
    """Names one of all categories and one of all colours."""
    return WorldClassifier(tuple(CATEGORIES), tuple(COLORS))


def images(path: Path, count: int) -> Images:
    """Images of `count` objects; rendered once, then read from the file."""
    if not path.exists():
        categories, colors = list(CATEGORIES), list(COLORS)
        cameras = orbit(VIEWS, ELEVATION_DEG, RADIUS)
        rgb, category, color = [], [], []
        for number in tqdm(range(count), "images for the judge", unit="object"):
            made = make_object(FIRST + number)
            some = cameras.roll(number, 0)[:: VIEWS // SIDES]
            rgb.append(
                (255 * on_grey(255 * render(made.shape, some, FOV_DEG, SEEN_PX))).round().to(torch.uint8)
            )
            category.append(categories.index(made.category))
            color.append(colors.index(made.color))
        names = {"category": torch.tensor(category), "color": torch.tensor(color)}
        save_whole({"rgb": torch.stack(rgb), **names}, path)
    return Images(**load_file(path))


def batch_of(world: Images, generator: torch.Generator, size: int) -> Batch:
    """Random images; half of them blurred, all of them noisy, so that details alone decide nothing."""
    objects = torch.randint(len(world.rgb), (size,), generator=generator)
    seen = world.rgb[objects, torch.randint(SIDES, (size,), generator=generator)].float() / 255
    return {
        "images": disturbed(seen, generator),
        "category": world.category[objects],
        "color": world.color[objects],
    }


def disturbed(images: Tensor, generator: torch.Generator) -> Tensor:  # [N, 3, H, W]
    """Images of which half are blurred and all are noisy."""
    half = len(images) // 2
    small = F.interpolate(images[:half], scale_factor=0.5, mode="area")
    soft = torch.cat([F.interpolate(small, images.shape[-2:], mode="bilinear"), images[half:]])
    return soft + 0.04 * torch.rand((), generator=generator) * torch.randn(soft.shape, generator=generator)


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
