"""The mesh of an asset: brought in by Blender's own glTF importer, without anything else that this makes."""

from __future__ import annotations

from pathlib import Path

import addon_utils
import bpy
import numpy as np

from ..backend.shared.protocol import DioramaError
from .splat_shapes import srgb_to_linear

_IMPORTER = "io_scene_gltf2"


def importer_missing() -> str:
    """Why no GLB can be imported, in words for the user; empty if it can."""
    if addon_utils.check(_IMPORTER)[1]:
        return ""
    return "The mesh was left out: enable the add-on glTF 2.0 format in the preferences and import again"


def mesh_object(name: str, path: Path) -> bpy.types.Object:
    """The mesh in a GLB file as one object in no collection, hidden; its texture is packed.

    Raises:
        DioramaError: E_ASSET if Blender cannot read the file, or it does not hold one mesh.
    """
    context = bpy.context
    # A scene of its own: the importer selects, activates, leaves edit mode, and scales by the scene's units.
    scene = bpy.data.scenes.new(name)
    try:
        with context.temp_override(scene=scene, view_layer=scene.view_layers[0]):
            bpy.ops.import_scene.gltf(filepath=str(path), merge_vertices=True, import_shading="NORMALS")
        scene.view_layers[0].update()  # for matrix_world
        made = list(scene.collection.all_objects)
        inner = list(scene.collection.children_recursive)
    except RuntimeError as error:  # the importer's report
        raise DioramaError("E_ASSET", f"{path}: {str(error).removeprefix('Error: ').strip()}") from error
    finally:
        bpy.data.scenes.remove(scene)
    meshes = [item for item in made if item.type == "MESH"]
    if len(meshes) != 1:
        raise DioramaError("E_ASSET", f"{path} holds {len(meshes)} meshes; expected one")
    body = meshes[0]
    world = body.matrix_world.copy()
    body.parent = None
    body.data.transform(world)
    body.matrix_basis.identity()
    bpy.data.batch_remove([item for item in (*made, *inner) if item != body])
    body.name = body.data.name = name
    for slot in body.material_slots:
        slot.material.name = name
        for node in slot.material.node_tree.nodes:
            if node.type == "TEX_IMAGE" and node.image:
                node.image.name = name
                slot.material.diffuse_color = (*_worn_colour(body.data, node.image), 1.0)
    body.hide_viewport = body.hide_render = True  # the splats are the object
    return body


def _worn_colour(mesh: bpy.types.Mesh, image: bpy.types.Image) -> np.ndarray:  # [3] linear
    """The mean of a texture where a mesh wears it: what Solid shading shows of it."""
    places = np.empty((len(mesh.loops), 2), np.float32)
    mesh.uv_layers.active.uv.foreach_get("vector", places.ravel())
    width, height = image.size
    pixels = np.empty((height, width, image.channels), np.float32)
    image.pixels.foreach_get(pixels.ravel())
    columns, rows = np.clip((places * (width, height)).astype(int), 0, (width - 1, height - 1)).T
    return srgb_to_linear(pixels[rows, columns, :3].astype(np.float64).mean(axis=0))
