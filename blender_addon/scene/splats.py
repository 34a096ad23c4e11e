"""Gaussian splats as a Blender object, and back: one loose vertex per splat, the rest as attributes."""

from __future__ import annotations

from collections.abc import Iterable

import bmesh
import bpy
import numpy as np

from ..backend.shared.ply import GaussianCloud
from ..backend.shared.protocol import DioramaError
from ..backend.shared.splat_transform import shapes, turn_of_directions, turned_harmonics
from .modifier_inputs import set_inputs
from .splat_material import preview_material, splat_material
from .splat_nodes import GROUP_NAME, splat_group

PLACE = "splat_place"  # where the splat was when its shape was right: see carry.py
_ATTRIBUTES = {"rotation": "QUATERNION", "scale": "FLOAT_VECTOR", "opacity": "FLOAT", "sh_0": "FLOAT_VECTOR"}
_PROPERTY = {"FLOAT": "value", "FLOAT_VECTOR": "vector", "QUATERNION": "value"}  # as foreach_set names it


def splat_object(name: str, mesh: bpy.types.Mesh, blending: str) -> bpy.types.Object:
    """Make an object that shows the splats in a mesh; it is in no collection yet.

    Args:
        name: of the object.
        mesh: from `splat_mesh`.
        blending: "linear" (composited as light, as everything in Blender) or "display" (colours kept as splat
            viewers have them, for scenes that convert the finished layer).
    """
    body = bpy.data.objects.new(name, mesh)
    show(body, blending)
    return body


def show(body: bpy.types.Object, blending: str) -> None:
    """Let an object whose mesh has splats show them, blended "linear" or "display"."""
    modifier = body.modifiers.new(GROUP_NAME, "NODES")
    modifier.node_group = splat_group()
    modifier.show_in_editmode = False  # there, splats are points to be selected
    set_inputs(
        modifier,
        Material=splat_material(),
        Preview_Material=preview_material(),
        SH_Degree=_sh_degree(body.data),
        Display_Blending=blending == "display",
    )


def splat_modifier(splats: bpy.types.Object) -> bpy.types.NodesModifier | None:
    """The modifier that shows splats, unless it was taken away."""
    modifier = splats.modifiers.get(GROUP_NAME)
    return modifier if modifier and modifier.node_group else None


def splats_of(splats: bpy.types.Object) -> GaussianCloud:
    """The cloud in an object, as edited, in the object's own space.

    Raises:
        DioramaError: E_PLY if the object is not a splat object.
    """
    if not is_splats(splats):
        raise DioramaError("E_PLY", f"{splats.name} is no splat object", "Select an imported splat object.")
    return cloud_in(splats.data)


def cloud_in(mesh: bpy.types.Mesh | bpy.types.PointCloud) -> GaussianCloud:
    """The cloud in a mesh that has the attributes of splats, or in a point cloud that was one."""
    harmonics = (_sh_degree(mesh) + 1) ** 2
    return GaussianCloud(
        means=positions(mesh) if isinstance(mesh, bpy.types.Mesh) else values(mesh, "position", 3),
        quats=values(mesh, "rotation", 4),
        scales=values(mesh, "scale", 3),
        opacities=values(mesh, "opacity", 1)[:, 0],
        sh=np.stack([values(mesh, f"sh_{i}", 3) for i in range(harmonics)], axis=1),
    )


def is_splats(candidate: bpy.types.Object | None) -> bool:
    """Whether an object has the attributes of splats."""
    return candidate is not None and candidate.type == "MESH" and has_splats(candidate.data)


def has_splats(mesh: bpy.types.Mesh) -> bool:
    """Whether a mesh has the attributes of splats."""
    return all(has_attribute(mesh, name, kind) for name, kind in _ATTRIBUTES.items())


def has_attribute(mesh: bpy.types.Mesh | bpy.types.PointCloud, name: str, kind: str) -> bool:
    """Whether the vertices of a mesh have that attribute; other tools use the names too, for other kinds."""
    attribute = mesh.attributes.get(name)
    return attribute is not None and attribute.data_type == kind and attribute.domain == "POINT"


def splat_mesh(name: str, cloud: GaussianCloud) -> bpy.types.Mesh:
    """A mesh with a loose vertex per splat."""
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(cloud))
    fill(mesh, cloud)
    return mesh


def fill(mesh: bpy.types.Mesh, cloud: GaussianCloud) -> None:
    """Make splats of the loose vertices of a mesh, which are as many and have no attributes of splats."""
    mesh.vertices.foreach_set("co", np.ascontiguousarray(cloud.means, np.float32).ravel())
    columns = [
        ("rotation", "QUATERNION", cloud.quats),
        ("scale", "FLOAT_VECTOR", cloud.scales),
        ("opacity", "FLOAT", cloud.opacities),
        *((f"sh_{i}", "FLOAT_VECTOR", cloud.sh[:, i]) for i in range(cloud.sh.shape[1])),
        (PLACE, "FLOAT_VECTOR", cloud.means),
    ]
    for attribute_name, kind, content in columns:
        mesh.attributes.new(attribute_name, kind, "POINT")
        _store(mesh, attribute_name, content)


def forget(points: bpy.types.PointCloud) -> None:
    """Take away what a point cloud that was made of such a mesh has of it, but the places."""
    for name in [each.name for each in points.attributes]:
        if name in ("rotation", "scale", "opacity", PLACE) or name.startswith("sh_"):
            points.attributes.remove(points.attributes[name])


def remove_splats(mesh: bpy.types.Mesh, gone: np.ndarray) -> None:  # [N] bool
    """Delete splats, with all of their attributes."""
    if not gone.any():
        return
    work = bmesh.new()
    try:
        work.from_mesh(mesh)
        work.verts.ensure_lookup_table()
        bmesh.ops.delete(work, geom=[work.verts[i] for i in np.flatnonzero(gone)], context="VERTS")
        work.to_mesh(mesh)
    finally:
        work.free()
    mesh.update_tag()


def _sh_degree(mesh: bpy.types.Mesh | bpy.types.PointCloud) -> int:
    """The degree up to which all spherical harmonics are there."""
    degree = 0
    while all(has_attribute(mesh, f"sh_{i}", "FLOAT_VECTOR") for i in range((degree + 2) ** 2)):
        degree += 1
    return degree


def positions(mesh: bpy.types.Mesh) -> np.ndarray:  # [N, 3]
    """Where the splats of a mesh are, in its own space; with shape keys, where the first of them has them."""
    places = np.empty((len(mesh.vertices), 3), np.float32)
    # While there are some, the vertices themselves are wherever the key is that was edited last.
    keys = None if mesh.is_evaluated else mesh.shape_keys
    (keys.reference_key.data if keys else mesh.vertices).foreach_get("co", places.ravel())
    return places


def transform_shapes(mesh: bpy.types.Mesh, maps: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Let shapes and harmonics of splats follow linear maps that their places have followed already.

    Args:
        maps: a map, [3, 3], and the numbers of the splats that have followed it, [n].
    """
    rotation, scale = values(mesh, "rotation", 4), values(mesh, "scale", 3)
    names = [f"sh_{i}" for i in range((_sh_degree(mesh) + 1) ** 2)]
    sh = np.stack([values(mesh, name, 3) for name in names], axis=1)
    for linear, chosen in maps:
        rotation[chosen], scale[chosen] = shapes(linear, rotation[chosen], scale[chosen])
        sh[chosen] = turned_harmonics(sh[chosen], turn_of_directions(linear))
    _store(mesh, "rotation", rotation)
    _store(mesh, "scale", scale)
    for i, name in enumerate(names):
        _store(mesh, name, sh[:, i])


def _store(mesh: bpy.types.Mesh, name: str, content: np.ndarray) -> None:
    attribute = mesh.attributes[name]
    attribute.data.foreach_set(
        _PROPERTY[attribute.data_type], np.ascontiguousarray(content, np.float32).ravel()
    )


def values(mesh: bpy.types.Mesh | bpy.types.PointCloud, name: str, width: int) -> np.ndarray:  # [N, width]
    """An attribute of the splats of a mesh."""
    attribute = mesh.attributes[name]
    found = np.empty((len(attribute.data), width), np.float32)
    attribute.data.foreach_get(_PROPERTY[attribute.data_type], found.ravel())
    return found
