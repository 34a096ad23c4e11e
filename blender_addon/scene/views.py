"""The generated views: images on their cameras, and as images standing where the object is."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import bpy

from ..backend.shared.asset import Asset
from . import sequences


def view_image(name: str, files: tuple[Path, ...]) -> bpy.types.Image:
    """One view as an image, packed into the .blend file, or an image sequence, which `view_files` keeps."""
    image = bpy.data.images.load(str(files[0]))
    image.name = name
    if len(files) == 1:
        image.pack()
    else:
        image.source = "SEQUENCE"
        if bpy.data.is_saved:
            with contextlib.suppress(ValueError):  # on Windows, from another drive there is no relative path
                image.filepath = bpy.path.relpath(str(files[0]))
    return image


def show_behind_camera(
    camera: bpy.types.Camera, image: bpy.types.Image, frames: int, frame_start: int, fps: float
) -> None:
    """Make an image the background of its camera."""
    camera.show_background_images = True
    background = camera.background_images.new()
    background.image = image
    background.alpha = 1.0
    background.frame_method = "FIT"
    _play(background.image_user, camera, frames, frame_start, fps)


def picture(
    name: str, asset: Asset, camera: bpy.types.Object, image: bpy.types.Image, frame_start: int
) -> bpy.types.Object:
    """A plane with the view on it, where the object is, filling the view of its camera; hidden at first."""
    distance = camera.matrix_basis.translation.length
    half_width = distance * math.tan(math.radians(asset.fov_deg) / 2)
    half_height = half_width * asset.height / asset.width
    mesh = bpy.data.meshes.new(name)
    corners = [(x * half_width, y * half_height, -distance) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    mesh.from_pydata(corners, [], [(0, 1, 2, 3)])
    uv = mesh.uv_layers.new()
    uv.data.foreach_set("uv", (0, 0, 1, 0, 1, 1, 0, 1))
    mesh.materials.append(_picture_material(name, image, asset, frame_start))
    plane = bpy.data.objects.new(name, mesh)
    plane.parent = camera
    plane.hide_viewport = plane.hide_render = True
    return plane


def _picture_material(
    name: str, image: bpy.types.Image, asset: Asset, frame_start: int
) -> bpy.types.Material:
    """Shows an image as it is, without light, transparent where the image is."""
    material = bpy.data.materials.new(name)
    if material.node_tree is None:  # up to 4.5
        material.use_nodes = True
    if hasattr(material, "cycles"):
        material.cycles.emission_sampling = "NONE"
    tree = material.node_tree
    tree.nodes.clear()
    kinds = ("TexImage", "BsdfTransparent", "Emission", "MixShader", "OutputMaterial")
    nodes = [tree.nodes.new(f"ShaderNode{kind}") for kind in kinds]
    texture, transparent, emission, mix, output = nodes
    for column, node in zip((0, 1, 1, 2, 3), nodes, strict=True):
        node.location = (300 * column, -150 if node is emission else 0)
    texture.image = image
    _play(texture.image_user, tree, len(asset.views[0]), frame_start, asset.fps)
    tree.links.new(texture.outputs["Color"], emission.inputs["Color"])
    tree.links.new(texture.outputs["Alpha"], mix.inputs[0])
    tree.links.new(transparent.outputs[0], mix.inputs[1])
    tree.links.new(emission.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], output.inputs["Surface"])
    return material


def _play(user: bpy.types.ImageUser, owner: bpy.types.ID, frames: int, frame_start: int, fps: float) -> None:
    """Let an image sequence play from a scene frame on, at its own speed, over and over.

    Blender plays a file a frame. So the sequence is one file long, and a driver moves it on; files count
    from 0.
    """
    if frames == 1:
        return
    user.frame_duration = 1
    user.frame_start = frame_start
    user.use_cyclic = True
    user.use_auto_refresh = True
    driver = owner.driver_add(f"{user.path_from_id()}.frame_offset").driver
    # As in the nodes: 2.9999999 may stand for frame 3.
    sequences.clock(driver, frame_start, fps, f"floor(fmod({{}} + {frames * 1000}.0001, {frames})) - 1")
