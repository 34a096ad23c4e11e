"""Writes rows of images into one file, to look at."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def write_image_grid(path: Path, rows: Tensor) -> None:  # [R, C, 3, H, W] sRGB 0..1
    """One image with all of them in their rows and columns."""
    sheet = rows.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)  # [R * H, C * W, 3]
    pixels = (sheet.clamp(0, 1) * 255).round().to(torch.uint8)
    Image.fromarray(pixels.cpu().numpy()).save(path)
