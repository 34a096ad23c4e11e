"""Moving objects of the small world, seen from four sides, to train on: rendered once, kept as files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..cameras import orbit
from .dataset import ELEVATION_DEG, FOV_DEG, RADIUS, SIZE_PX, VIEWS, read_shards
from .motions import make_clip
from .tracing import render

NUM_VIEWS = 4  # views of each clip, a quarter turn apart, from one of the first VIEWS / SIDES of the orbit on
FRAMES = 8
SHARD = 20  # clips in a file


@dataclass(frozen=True)
class WorldClips:
    """Moving objects from four sides."""

    rgba: Tensor  # [N, V, F, 4, H, W] uint8, sRGB, straight alpha
    cameras: Tensor  # [N, V, 4, 4] camera-to-world
    captions: list[str]
    categories: list[str]
    colors: list[str]
    motions: list[str]


def load(folder: Path, seeds: Iterable[int], size_px: int | None = None) -> WorldClips:
    """The clips of those seeds; what is not in the folder yet is rendered and added to it."""
    numbers = list(seeds)
    rgba, labels = read_shards(folder, numbers, SHARD, partial(_draw, size_px=size_px or SIZE_PX))
    captions, categories, colors, motions = map(list, zip(*labels, strict=True))
    cameras = torch.stack([cameras_of(number) for number in numbers])
    return WorldClips(rgba, cameras, captions, categories, colors, motions)


def cameras_of(seed: int) -> Tensor:  # [V, 4, 4]
    """The cameras of the clip with that number."""
    apart = VIEWS // NUM_VIEWS
    return orbit(VIEWS, ELEVATION_DEG, RADIUS)[seed % apart :: apart]


def _draw(seed: int, size_px: int) -> tuple[Tensor, tuple[str, ...]]:
    clip = make_clip(seed, FRAMES)
    frames = [render(shape, cameras_of(seed), FOV_DEG, size_px) for shape in clip.frames]
    return torch.stack(frames, dim=1), (clip.caption, clip.category, clip.color, clip.motion)
