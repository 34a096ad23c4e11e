"""Takes the images: colour with alpha, and depth with normals, through cameras given as matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import bpy
import numpy as np
from mathutils import Matrix

from .render_files import check_png, render_to
from .subjects import rendered
from .viewpoints import FOV_DEG, TURN, Frame

Engine = Literal["cycles", "eevee", "workbench"]  # the last two need a display or a graphics card


@dataclass(frozen=True)
class Look:
    """How images are taken."""

    size_px: int
    samples: int
    engine: Engine


def prepare(look: Look, frame: Frame) -> bpy.types.Object:
    """Makes the open scene ready and returns its new camera; all in memory, nothing is saved."""
    scene = bpy.context.scene
    scene.timeline_markers.clear()  # cameras bound to them would come back
    render = scene.render
    eevee = "BLENDER_EEVEE_NEXT" if bpy.app.version < (5, 0) else "BLENDER_EEVEE"
    render.engine = {"cycles": "CYCLES", "eevee": eevee, "workbench": "BLENDER_WORKBENCH"}[look.engine]
    scene.cycles.samples = look.samples
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = look.samples >= 4
    scene.cycles.use_animated_seed = False  # noise that moves would pass for motion
    render.resolution_x = render.resolution_y = look.size_px
    render.resolution_percentage = 100
    render.pixel_aspect_x = render.pixel_aspect_y = 1
    undisturbed(scene)
    data = bpy.data.cameras.new("dataset camera")
    data.sensor_fit, data.angle = "HORIZONTAL", math.radians(FOV_DEG)
    data.clip_start, data.clip_end = 0.01 * frame.metres_per_unit, 100 * frame.metres_per_unit
    camera = bpy.data.objects.new("dataset camera", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    return camera


def undisturbed(scene: bpy.types.Scene) -> None:
    """Lets a scene render its objects before nothing, without compositor, sequencer, borders and the like.

    Colours are shown as they are (view transform Standard), so that they keep their values.
    """
    render = scene.render
    render.film_transparent = True
    for option in ("use_border", "use_compositing", "use_sequencer", "use_motion_blur", "use_multiview",
                   "use_stamp", "use_freestyle"):  # fmt: skip
        setattr(render, option, False)
    for layer in scene.view_layers:
        layer.use = layer == bpy.context.view_layer
    view = scene.view_settings
    view.view_transform, view.look, view.exposure, view.gamma = "Standard", "None", 0, 1
    view.use_curve_mapping = False


def light(kind: str, frame: Frame, rng: np.random.Generator) -> None:
    """Adds light: "even" comes from all around; "point" is one lamp anywhere, as MVDream's data has."""
    scene = bpy.context.scene
    world = bpy.data.worlds.new("dataset world")
    _make_nodes(world)
    background = next(node for node in world.node_tree.nodes if node.type == "BACKGROUND")
    background.inputs["Color"].default_value = (1, 1, 1, 1)
    background.inputs["Strength"].default_value = 0.6 if kind == "even" else 0.4
    scene.world = world
    if kind == "even":
        lamp = bpy.data.lights.new("dataset sun", "SUN")
        lamp.energy = 1.5
        direction = np.array([1.0, -0.6, 1.5])  # from the front, the left and above
    else:
        lamp = bpy.data.lights.new("dataset lamp", "POINT")
        lamp.energy = rng.uniform(100, 250) * frame.metres_per_unit**2  # watts: as bright at any size
        lamp.shadow_soft_size = 0.2 * frame.metres_per_unit
        azimuth, height = rng.uniform(0, math.tau), rng.uniform(0.3, 0.9)
        side = math.sqrt(1 - height**2)
        direction = np.array([side * math.cos(azimuth), side * math.sin(azimuth), height])
    item = bpy.data.objects.new(lamp.name, lamp)
    direction = TURN @ direction / np.linalg.norm(direction)
    matrix = Matrix.Translation(frame.center + 2.5 * frame.metres_per_unit * direction)
    turn = Matrix(np.eye(3)).to_4x4() if kind == "point" else _facing(direction)
    item.matrix_world = matrix @ turn
    scene.collection.objects.link(item)


def has_lights() -> bool:
    """Whether the scene has a lamp of its own that is rendered."""
    shown = rendered(bpy.context.scene.collection)
    return any(item.type == "LIGHT" and item.name in shown for item in bpy.context.view_layer.objects)


def shoot(camera: bpy.types.Object, matrix: np.ndarray, path: Path) -> None:
    """Writes one RGBA PNG, straight alpha, seen from a camera-to-world matrix of the scene."""
    camera.matrix_world = Matrix(matrix.tolist())
    _render(path, "PNG", "8")


def shoot_depth(camera: bpy.types.Object, matrix: np.ndarray, frame: Frame, path: Path) -> None:
    """Writes `…_nd.exr` as G-Objaverse has it: the normal in RGB, the depth along the view in A, in units.

    Normals have the axes of the cameras' world; depth is 0 where nothing is. Rendered with two materials in
    place of all others, one ray a pixel, through its centre; so a texture with holes counts as solid.
    """
    camera.matrix_world = Matrix(matrix.tolist())
    with _one_exact_sample():
        depth = _rendered_through("View Z Depth", path)[..., :1] / frame.metres_per_unit
        normal = _rendered_through("Normal", path)[..., :3] @ TURN
    size = depth.shape[0]
    image = bpy.data.images.new("depth", size, size, alpha=True, float_buffer=True)
    try:
        image.colorspace_settings.name = "Non-Color"
        image.alpha_mode = "CHANNEL_PACKED"
        image.pixels.foreach_set(np.concatenate([normal, depth], -1).astype(np.float32).ravel())
        image.file_format, image.filepath_raw = "OPEN_EXR", str(path)
        image.save()
    finally:
        bpy.data.images.remove(image)


def read_pixels(path: Path) -> np.ndarray:  # [H, W, 4]
    """An image's values as they are stored, top row first."""
    image = bpy.data.images.load(str(path))
    try:
        image.alpha_mode = "CHANNEL_PACKED" if path.suffix == ".exr" else "STRAIGHT"
        width, height = image.size
        pixels = np.empty(4 * width * height, np.float32)
        image.pixels.foreach_get(pixels)
        return pixels.reshape(height, width, 4)[::-1].copy()
    finally:
        bpy.data.images.remove(image)


def _rendered_through(output: str, path: Path) -> np.ndarray:  # [H, W, 4], bottom row first
    """The image when every surface shines with one value: "View Z Depth" or "Normal"."""
    layer = bpy.context.view_layer
    before = layer.material_override
    material = bpy.data.materials.new(output)
    passing = path.with_name(".pass.exr")
    try:
        _make_nodes(material)
        nodes, links = material.node_tree.nodes, material.node_tree.links
        nodes.clear()
        source = nodes.new("ShaderNodeNewGeometry" if output == "Normal" else "ShaderNodeCameraData")
        shine, end = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeOutputMaterial")
        links.new(source.outputs[output], shine.inputs["Color"])
        links.new(shine.outputs[0], end.inputs["Surface"])
        layer.material_override = material
        _render(passing, "OPEN_EXR", "32")
        return read_pixels(passing)[::-1]
    finally:
        layer.material_override = before
        bpy.data.materials.remove(material)
        passing.unlink(missing_ok=True)


@contextmanager
def _one_exact_sample() -> Iterator[None]:
    """Cycles with one ray a pixel, through its centre and without blur, then the settings from before."""
    scene = bpy.context.scene
    wanted = {
        (scene.render, "engine"): "CYCLES",
        (scene.cycles, "samples"): 1,
        (scene.cycles, "use_denoising"): False,
        (scene.cycles, "pixel_filter_type"): "GAUSSIAN",
        (scene.cycles, "filter_width"): 0.01,
    }
    before = [(owner, name, getattr(owner, name)) for owner, name in wanted]
    for (owner, name), value in wanted.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _render(path: Path, file_format: str, depth: str) -> None:
    settings = bpy.context.scene.render.image_settings
    if hasattr(settings, "media_type"):  # since Blender 5.0
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = file_format, "RGBA", depth
    if file_format == "OPEN_EXR":
        settings.exr_codec = "ZIP"
    render_to(bpy.context.scene, path)
    bpy.ops.render.render(write_still=True)
    if file_format == "PNG":
        check_png(path)


def _facing(direction: np.ndarray) -> Matrix:  # [3]
    """The turn after which a lamp's -Z points against a direction."""
    right = np.cross([0.0, 0.0, 1.0], direction)
    right /= np.linalg.norm(right)
    return Matrix(np.stack([right, np.cross(direction, right), direction], axis=1).tolist()).to_4x4()


def _make_nodes(owner: bpy.types.Material | bpy.types.World) -> None:
    if owner.node_tree is None:  # since Blender 5.0 it is there from the beginning
        owner.use_nodes = True
