"""Cameras around small clouds, and renders as arrays, for the tests of the scene."""

from __future__ import annotations

import math
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

from tests.shared.clouds import make_cloud  # noqa: F401 (for the tests of the scene)


def orbit(count: int, radius: float = 2.6) -> np.ndarray:
    """Cameras around the origin at changing heights: [count, 4, 4] camera-to-world."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for i, pose in enumerate(poses):
        azimuth, elevation = 2 * np.pi * i / count + 0.3, (0.3, -0.2, 0.9, 0.0)[i % 4]
        back = np.array([np.cos(azimuth), np.sin(azimuth), np.tan(elevation)]) * np.cos(elevation)
        right = np.cross([0, 0, 1], back)
        right /= np.linalg.norm(right)
        pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(back, right), back, radius * back
    return poses


def add_camera(pose: np.ndarray, fov_deg: float = 40.0) -> bpy.types.Object:
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.angle = math.radians(fov_deg)
    camera.matrix_world = Matrix(pose.tolist())
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    return camera


def pixel_size(fov_deg: float, size_px: int) -> float:
    return 2 * math.tan(math.radians(fov_deg) / 2) / size_px


def prepare(width: int, height: int, engine: str = "CYCLES") -> bpy.types.Scene:
    """Settings under which a render has nothing but the splats in it: black world, one sample, no filter."""
    scene = bpy.context.scene
    scene.render.engine = engine
    scene.render.resolution_x, scene.render.resolution_y = width, height
    scene.cycles.samples = 1
    scene.cycles.use_denoising = False
    scene.cycles.pixel_filter_type = "GAUSSIAN"  # a box is always one pixel wide
    scene.cycles.filter_width = 0.01
    scene.eevee.taa_render_samples = 1
    scene.render.filter_size = 0.01
    scene.view_settings.view_transform = "Raw"
    return scene


def render(folder: Path) -> np.ndarray:
    """Render the scene: [height, width, 3], as the view transform leaves it."""
    settings = bpy.context.scene.render.image_settings
    settings.file_format, settings.color_depth, settings.color_mode = "OPEN_EXR", "32", "RGBA"
    return _rendered(folder / "render.exr")


def render_png(folder: Path) -> np.ndarray:
    """Render the scene to the pixels an artist gets: [height, width, 3] sRGB in 256 steps."""
    settings = bpy.context.scene.render.image_settings
    settings.file_format, settings.color_mode = "PNG", "RGB"
    return _rendered(folder / "render.png")


def _rendered(path: Path) -> np.ndarray:
    bpy.context.scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    return read_image(path)


def read_image(path: Path | str) -> np.ndarray:
    """The pixels of a file as they are: [height, width, 3]."""
    image = bpy.data.images.load(str(path), check_existing=False)
    image.colorspace_settings.name = "Non-Color"
    width, height = image.size
    pixels = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    return pixels.reshape(height, width, -1)[::-1, :, :3]
