"""Images of the small world to train on: rendered once, kept as files, read back whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ..cameras import orbit
from ..gaussians import color
from .tracing import render
from .world import make_object

VIEWS = 16  # of each object, so that half of them are an orbit too
SIZE_PX = 96  # as the denoiser learns them
CRISP_PX = 192  # as the decoder makes them
ELEVATION_DEG, RADIUS, FOV_DEG = 15.0, 1.9, 39.6  # VideoMV's orbit, nearer: few pixels must show much
GREY = color.GREY  # behind every image that a network sees
SHARD = 50  # objects in a file
FIRST_HELD_OUT_SEED = 1_000_000  # objects from here on are never trained on


@dataclass(frozen=True)
class WorldViews:
    """Objects and how they look from every camera of the orbit."""

    rgba: Tensor  # [N, V, 4, H, W] uint8, sRGB, straight alpha
    captions: list[str]
    categories: list[str]
    colors: list[str]

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def cameras(self) -> Tensor:  # [V, 4, 4] camera-to-world
        return orbit(self.rgba.shape[1], ELEVATION_DEG, RADIUS)

    def images(self, objects: Tensor, views: Tensor) -> Tensor:  # [B], [B, V] -> [B, V, 4, H, W]
        """Images of some objects from some cameras: sRGB 0..1, straight alpha."""
        return self.rgba[objects[:, None], views].float() / 255


def load(folder: Path, seeds: Iterable[int], size_px: int | None = None) -> WorldViews:
    """The objects of those seeds; what is not in the folder yet is rendered and added to it."""
    rgba, labels = read_shards(folder, list(seeds), SHARD, partial(_draw, size_px=size_px or SIZE_PX))
    captions, categories, colors = map(list, zip(*labels, strict=True))
    return WorldViews(rgba, captions, categories, colors)


def _draw(seed: int, size_px: int) -> tuple[Tensor, tuple[str, ...]]:
    item = make_object(seed)
    images = render(item.shape, orbit(VIEWS, ELEVATION_DEG, RADIUS), FOV_DEG, size_px)
    return images, (item.caption, item.category, item.color)


def read_shards(
    folder: Path,
    numbers: list[int],
    shard: int,
    draw: Callable[[int], tuple[Tensor, tuple[str, ...]]],  # number -> images [..., 4, H, W], labels
) -> tuple[Tensor, list[list[str]]]:
    """Images [N, ...] as bytes, and their labels, of all numbers: from files of `shard`, or drawn anew."""
    rgba, labels = [], []
    for start in tqdm(range(0, len(numbers), shard), desc=f"images in {folder.name}", unit="shard"):
        path, wanted = folder / f"objects-{numbers[start]}.safetensors", numbers[start : start + shard]
        images, names = _read_shard(path) if path.exists() else (None, [])
        if images is None or len(names) != len(wanted):  # it was the last one of fewer
            _write_shard(path, [draw(number) for number in wanted])
            images, names = _read_shard(path)
        rgba.append(images)
        labels += names
    return torch.cat(rgba), labels


def _read_shard(path: Path) -> tuple[Tensor, list[list[str]]]:
    with safe_open(path, "pt") as file:
        return file.get_tensor("rgba"), json.loads(file.metadata()["labels"])


def _write_shard(path: Path, drawn: list[tuple[Tensor, tuple[str, ...]]]) -> None:
    rgba = torch.stack([(images * 255).round().to(torch.uint8) for images, _ in drawn]).contiguous()
    labels = json.dumps([labels for _, labels in drawn])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_whole({"rgba": rgba}, path, {"labels": labels})


def save_whole(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a file that is whole or not there, whichever process comes first."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    save_file(tensors, partial, metadata)
    os.replace(partial, path)
