"""A capture of the painted blob for tests, in the layouts that tools write."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from backend.cameras import orbit
from tests.gaussians.painted_blob import FOV_DEG, painted_blob, painted_images

SIZE = 64


def poses(count: int) -> torch.Tensor:
    """Cameras in three rings around the blob."""
    rings = [orbit(count // 3, elevation, 2.0, 20.0 * i) for i, elevation in enumerate((-35.0, 10.0, 50.0))]
    return torch.cat(rings)


def write_capture(folder: Path, count: int = 24, images: str = "images/{}.png", **changes: Any) -> Path:
    """Writes RGBA images of the blob, SIZE pixels a side, and their cameras in transforms.json.

    Args:
        images: their names; without an ending, transforms.json leaves it out and the files have .png.
        changes: of transforms.json; None takes away.
    """
    cameras = poses(count)
    pictures = painted_images(painted_blob(3000), cameras, SIZE, "linear")
    frames = []
    for i, (camera, picture) in enumerate(zip(cameras, pictures, strict=True)):
        name = images.format(i)
        path = folder / (name if name.endswith(".png") else name + ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (picture.movedim(0, -1).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(path)
        frames.append({"file_path": name, "transform_matrix": camera.tolist()})
    data = {"camera_angle_x": math.radians(FOV_DEG), "frames": frames} | changes
    data = {name: value for name, value in data.items() if value is not None}
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


def edit(folder: Path, change: Any) -> None:
    """Lets a function change what transforms.json holds."""
    path = folder / "transforms.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
