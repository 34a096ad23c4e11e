"""Moving objects of the starter's world, seen from four sides, to train on: rendered once, kept as files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..cameras import orbit
from .dataset import read_shards
from .motions import make_clip
from .objects.framing import ELEVATION_DEG, FOV_DEG, RADIUS
from .objects.pictures import SIZE_PX
from .tracing import render

NUM_VIEWS = 4  # of each clip, from the object's front on
FRAMES = 8
SHARD = 20  # clips in a file


@dataclass(frozen=True)
class WorldClips:
    """Moving objects from four sides."""

    rgba: Tensor  # [N, V, F, 4, H, W] uint8, sRGB, straight alpha
    captions: list[str]
    categories: list[str]
    colors: list[str]
    motions: list[str]


def load(folder: Path, seeds: Iterable[int], size_px: int) -> WorldClips:
    """The clips of those seeds; what is not in the folder yet is rendered and added to it."""
    rgba, labels = read_shards(folder, list(seeds), SHARD, partial(_draw, size_px=size_px))
    return WorldClips(rgba, *map(list, zip(*labels, strict=True)))


def cameras() -> Tensor:  # [V, 4, 4]
    """The cameras that see every clip."""
    return orbit(NUM_VIEWS, ELEVATION_DEG, RADIUS)


def _draw(seed: int, size_px: int) -> tuple[Tensor, tuple[str, ...]]:
    clip = make_clip(seed, FRAMES)
    seen = {shape: render(shape, cameras(), FOV_DEG, size_px) for shape in set(clip.frames)}
    images = torch.stack([seen[shape] for shape in clip.frames], dim=1)
    return images, (clip.caption, clip.category, clip.color, clip.motion)


def main() -> None:
    """Renders ahead of training: `python -m backend.starter.clips FOLDER FIRST COUNT`."""
    import sys

    for seed in range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3]), SHARD):
        load(Path(sys.argv[1]), range(seed, seed + SHARD), SIZE_PX)


if __name__ == "__main__":
    main()
