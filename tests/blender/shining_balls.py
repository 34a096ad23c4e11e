"""Scenes of shining balls to render training data of, and readers of what was rendered."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import numpy as np
from PIL import Image

PLAIN = ["--textureless", "1"]  # the shining balls have none
SMALL = ["--size", "32", "--views", "4", "--samples", "1"]


def shining(color: tuple[float, float, float]) -> bpy.types.Material:
    material = bpy.data.materials.new("shining")
    if material.node_tree is None:
        material.use_nodes = True
    nodes = material.node_tree.nodes
    nodes.clear()
    emission, output = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeOutputMaterial")
    emission.inputs["Color"].default_value = (*color, 1)
    material.node_tree.links.new(emission.outputs[0], output.inputs["Surface"])
    return material


def add_ball(
    at: tuple[float, float, float], color: tuple[float, float, float], radius: float
) -> bpy.types.Object:
    bpy.ops.mesh.primitive_uv_sphere_add(radius=radius, location=at, segments=32, ring_count=16)
    bpy.context.object.data.materials.append(shining(color))
    return bpy.context.object


def save(path: Path) -> Path:
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)
    return path


def save_moving_ball(path: Path, *stations: tuple[float, float, float]) -> Path:
    """A still post of size 1 beside a ball that is at one station after another, every three frames."""
    bpy.ops.wm.read_homefile(use_empty=True)
    add_ball((0, 0, 0), (1, 1, 1), 0.5)
    ball = add_ball((0, 0, 0.6), (1, 0, 0), 0.3)
    for index, station in enumerate(stations):
        ball.location = station
        ball.keyframe_insert("location", frame=1 + 3 * index)
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 1, 1 + 3 * max(len(stations) - 1, 1)
    return save(path)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), np.float32) / 255


def nd(path: Path) -> np.ndarray:  # [H, W, 4], top row first
    image = bpy.data.images.load(str(path))
    image.alpha_mode = "CHANNEL_PACKED"
    width, height = image.size
    return np.array(image.pixels[:], np.float32).reshape(height, width, 4)[::-1]


def read(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))
