"""Images of the starter's wider world to train on: rendered once, kept as PNGs in shards, read one by one."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from tqdm import tqdm

from ...cameras import orbit
from ...gaussians.color import over
from ..dataset import GREY, save_whole
from ..sdf import Shape
from ..tracing import render
from .compositions import make_composition
from .framing import ELEVATION_DEG, FOV_DEG, RADIUS
from .named import make_object

SIZE_PX = 192
VIEWS = 8  # of the orbit, from the object's front on
PHOTOS = 2  # more images of each object, from the azimuth of one of the views but from anywhere else
EACH = VIEWS + PHOTOS
SHARD = 25  # objects in a file
FIRST_HELD_OUT = 1_000_000  # objects from here on are never trained on
UNNAMED_EVERY = 3  # of so many objects one is a composition


@dataclass(frozen=True)
class Photo:
    """How an image was taken that is not of the orbit: from the azimuth of one of the views."""

    view: int
    elevation_deg: float
    radius: float
    fov_deg: float

    @property
    def camera(self) -> Tensor:  # [4, 4] camera-to-world
        return orbit(VIEWS, self.elevation_deg, self.radius)[self.view]


@dataclass(frozen=True)
class Item:
    """What is known of one object; a composition has no caption, nor names."""

    caption: str = ""
    category: str = ""
    color: str = ""
    trim: str = ""
    pattern: str = ""
    photos: tuple[Photo, ...] = ()


@dataclass(frozen=True)
class Pictures:
    """Images of objects: the views of the orbit, then the photos."""

    items: list[Item]
    pngs: list[Tensor] = field(repr=False)  # of every image, uint8

    def __len__(self) -> int:
        return len(self.items)

    def where(self, wanted: Callable[[Item], bool]) -> Pictures:
        """Those of some objects."""
        numbers = [i for i, item in enumerate(self.items) if wanted(item)]
        pngs = [png for i in numbers for png in self.pngs[i * EACH : (i + 1) * EACH]]
        return Pictures([self.items[i] for i in numbers], pngs)

    @property
    def cameras(self) -> Tensor:  # [V, 4, 4] camera-to-world
        return orbit(VIEWS, ELEVATION_DEG, RADIUS)

    def image(self, item: int, view: int) -> Tensor:  # [4, H, W] uint8, sRGB, straight alpha
        """One image; the photos are the last of an object's."""
        png = self.pngs[item * EACH + view]
        return torch.from_numpy(np.array(Image.open(io.BytesIO(png.numpy().tobytes())))).permute(2, 0, 1)

    def images(self, items: Tensor, views: Tensor) -> Tensor:  # [B], [B, V] -> [B, V, 4, H, W] uint8
        """Images of some objects, sRGB, straight alpha."""
        return torch.stack(
            [
                torch.stack([self.image(item, view) for view in some])
                for item, some in zip(items.tolist(), views.tolist(), strict=True)
            ]
        )


def on_grey(rgba: Tensor) -> Tensor:  # [..., 4, H, W] uint8 -> [..., 3, H, W]
    """Images as every network sees them: sRGB 0..1."""
    return over(rgba.float() / 255, GREY)


def load(folder: Path, first: int, count: int) -> Pictures:
    """Objects from number `first` on, in whole shards; those that are not in the folder yet are rendered."""
    items: list[Item] = []
    pngs: list[Tensor] = []
    for number in tqdm(range(first, first + count, SHARD), f"images in {folder.name}", unit="shard"):
        path = folder / f"objects-{number}.safetensors"
        if not path.exists():
            _write(path, number)
        found = _read(path)
        items += found[0]
        pngs += found[1]
    return Pictures(items, pngs)


def _write(path: Path, first: int) -> None:
    drawn = [_draw(number) for number in range(first, first + SHARD)]
    pngs = [png for _, images in drawn for png in images]
    ends = torch.tensor([len(png) for png in pngs]).cumsum(0)
    data = torch.frombuffer(bytearray(b"".join(pngs)), dtype=torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = json.dumps([asdict(item) for item, _ in drawn])
    save_whole({"data": data, "ends": ends}, path, {"items": labels})


def _read(path: Path) -> tuple[list[Item], list[Tensor]]:
    with safe_open(path, "pt") as file:
        data, ends = file.get_tensor("data"), file.get_tensor("ends").tolist()
        labels: list[dict[str, Any]] = json.loads(file.metadata()["items"])
    items = [
        Item(**{**label, "photos": tuple(Photo(**photo) for photo in label["photos"])}) for label in labels
    ]
    return items, list(data.tensor_split(ends[:-1]))


def draw(number: int) -> tuple[Shape, Item]:
    """The object of that number."""
    if number % UNNAMED_EVERY == UNNAMED_EVERY - 1:
        return make_composition(number), Item()
    made = make_object(number)
    return made.shape, Item(made.caption, made.category, made.color, made.trim, made.pattern)


def _draw(number: int) -> tuple[Item, list[bytes]]:
    shape, item = draw(number)
    photos = photos_of(number)
    images = [render(shape, orbit(VIEWS, ELEVATION_DEG, RADIUS), FOV_DEG, SIZE_PX)]
    images += [render(shape, photo.camera[None], photo.fov_deg, SIZE_PX) for photo in photos]
    pngs = []
    for rgba in torch.cat(images):
        pixels = (rgba * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        pngs.append(file.getvalue())
    return replace(item, photos=photos), pngs


def photos_of(number: int) -> tuple[Photo, Photo]:
    """One as an artist may take it, low or high, near or far, and one that differs in elevation alone."""
    dice = random.Random(f"photos {number}")
    fov_deg, room = dice.uniform(20, 60), dice.uniform(1.0, 1.35)
    away = room * 0.68 / math.sin(math.radians(fov_deg / 2))
    free = Photo(dice.randrange(VIEWS), dice.uniform(-8, 45), away, fov_deg)
    return free, Photo(dice.randrange(VIEWS), dice.uniform(-8, 60), RADIUS, FOV_DEG)


def main() -> None:
    """Renders ahead of training: `python -m backend.starter.objects.pictures FOLDER N`."""
    import sys

    load(Path(sys.argv[1]), FIRST_HELD_OUT, 2 * SHARD)
    load(Path(sys.argv[1]), 0, int(sys.argv[2]))


if __name__ == "__main__":
    main()
