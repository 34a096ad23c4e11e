"""Gaussian splats as a Blender object, and back: one loose vertex per splat, the rest as attributes."""

from __future__ import annotations

import bpy
import numpy as np

from ..backend.shared.ply import GaussianCloud
from ..backend.shared.protocol import DioramaError
from .modifier_inputs import set_inputs
from .splat_material import preview_material, splat_material
from .splat_nodes import GROUP_NAME, splat_group

_PROPERTY = {"FLOAT": "value", "FLOAT_VECTOR": "vector", "QUATERNION": "value"}  # as foreach_set names it


def splat_object(name: str, mesh: bpy.types.Mesh, blending: str) -> bpy.types.Object:
    """Make an object that shows the splats in a mesh; it is in no collection yet.

    Args:
        name: of the object.
        mesh: from `splat_mesh`.
        blending: "linear" (composited as light, as everything in Blender) or "display" (colours kept as splat
            viewers have them, for scenes that convert the finished layer).
    """
    splats = bpy.data.objects.new(name, mesh)
    modifier = splats.modifiers.new(GROUP_NAME, "NODES")
    modifier.node_group = splat_group()
    modifier.show_in_editmode = False  # there, splats are points to be selected
    set_inputs(
        modifier,
        Material=splat_material(),
        Preview_Material=preview_material(),
        SH_Degree=_sh_degree(mesh),
        Display_Blending=blending == "display",
    )
    return splats


def splat_modifier(splats: bpy.types.Object) -> bpy.types.NodesModifier | None:
    """The modifier that shows splats, unless it was taken away."""
    modifier = splats.modifiers.get(GROUP_NAME)
    return modifier if modifier and modifier.node_group else None


def splats_of(splats: bpy.types.Object) -> GaussianCloud:
    """The cloud in an object, as edited, in the object's own space.

    Raises:
        DioramaError: E_PLY if the object is not a splat object.
    """
    mesh = splats.data
    if not is_splats(splats):
        raise DioramaError("E_PLY", f"{splats.name} is no splat object", "Select an imported splat object.")
    harmonics = (_sh_degree(mesh) + 1) ** 2
    means = np.empty((len(mesh.vertices), 3), np.float32)
    mesh.vertices.foreach_get("co", means.ravel())
    return GaussianCloud(
        means=means,
        quats=_values(mesh, "rotation", 4),
        scales=_values(mesh, "scale", 3),
        opacities=_values(mesh, "opacity", 1)[:, 0],
        sh=np.stack([_values(mesh, f"sh_{i}", 3) for i in range(harmonics)], axis=1),
    )


def is_splats(candidate: bpy.types.Object | None) -> bool:
    """Whether an object has the attributes of splats."""
    return (
        candidate is not None
        and candidate.type == "MESH"
        and all(name in candidate.data.attributes for name in ("rotation", "scale", "opacity", "sh_0"))
    )


def splat_mesh(name: str, cloud: GaussianCloud) -> bpy.types.Mesh:
    """A mesh with a loose vertex per splat."""
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(cloud))
    mesh.vertices.foreach_set("co", np.ascontiguousarray(cloud.means, np.float32).ravel())
    columns = [
        ("rotation", "QUATERNION", cloud.quats),
        ("scale", "FLOAT_VECTOR", cloud.scales),
        ("opacity", "FLOAT", cloud.opacities),
        *((f"sh_{i}", "FLOAT_VECTOR", cloud.sh[:, i]) for i in range(cloud.sh.shape[1])),
    ]
    for attribute_name, kind, values in columns:
        attribute = mesh.attributes.new(attribute_name, kind, "POINT")
        attribute.data.foreach_set(_PROPERTY[kind], np.ascontiguousarray(values, np.float32).ravel())
    return mesh


def _sh_degree(mesh: bpy.types.Mesh) -> int:
    """The degree up to which all spherical harmonics are there."""
    degree = 0
    while all(f"sh_{i}" in mesh.attributes for i in range((degree + 2) ** 2)):
        degree += 1
    return degree


def _values(mesh: bpy.types.Mesh, name: str, width: int) -> np.ndarray:
    attribute = mesh.attributes[name]
    values = np.empty((len(mesh.vertices), width), np.float32)
    attribute.data.foreach_get(_PROPERTY[attribute.data_type], values.ravel())
    return values
