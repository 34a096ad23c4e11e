"""WebP images through Blender's own image loader: what SOG files of splats are made of."""

from __future__ import annotations

import tempfile
from pathlib import Path

import bpy
import numpy as np


def decode(data: bytes) -> np.ndarray:
    """The pixels of a WebP file: [h, w, 4] uint8, as they are.

    Raises:
        ValueError: if Blender cannot read it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.webp"
        path.write_bytes(data)
        image = bpy.data.images.load(str(path), check_existing=False)
        try:
            image.colorspace_settings.name = "Non-Color"
            image.alpha_mode = "CHANNEL_PACKED"  # colours are not multiplied by alpha
            width, height = image.size
            if not image.has_data or not width:
                raise ValueError("Blender cannot read its images")
            pixels = np.empty((height, width, image.channels), np.float32)
            image.pixels.foreach_get(pixels.ravel())
        finally:
            bpy.data.images.remove(image)
    out = np.full((height, width, 4), 255, np.uint8)
    out[:, :, : pixels.shape[2]] = np.round(pixels[::-1] * 255)
    return out


def encode(pixels: np.ndarray) -> bytes:
    """Pixels [h, w, 4] uint8 as a WebP file without loss.

    Raises:
        OSError: if Blender cannot write it.
    """
    height, width, _ = pixels.shape
    image = bpy.data.images.new("splats", width, height, alpha=True)
    try:
        image.colorspace_settings.name = "Non-Color"
        image.alpha_mode = "CHANNEL_PACKED"
        image.pixels.foreach_set((pixels[::-1] / np.float32(255)).astype(np.float32).ravel())
        image.file_format = "WEBP"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image.webp"
            image.save(filepath=str(path), quality=100)  # of 100: without loss
            return path.read_bytes()
    except RuntimeError as error:
        raise OSError(f"Blender cannot write WebP: {error}") from error
    finally:
        bpy.data.images.remove(image)
