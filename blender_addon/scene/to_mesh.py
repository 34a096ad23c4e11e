"""Makes a mesh of splats with Blender's own nodes: their surface as a volume has it, their colours on it.

Rough beside the textured mesh that can be generated, but of any splats, edited and cropped as they are.
"""

from __future__ import annotations

import bpy
import numpy as np

from ..backend.shared.ply import SH_C0, GaussianCloud
from ..backend.shared.protocol import DioramaError
from . import hierarchy
from .attribute_nodes import named, shared, store
from .crop import inside_crop
from .modifier_inputs import set_inputs
from .node_formulas import Field, Formulas
from .splat_shapes import srgb_to_linear
from .splats import cloud_in

_GROUP = "Diorama Splats to Mesh"
_COLOUR = "Color"
_RADIUS = "splat_radius"  # "radius" is the points' own, which Blender sets
_CLOSING = 3.0  # standard deviations of splats: balls as large as that leave no holes between them
_BACK = 0.7  # part of the balls' radius by which their surface stands out
_FAINT = 0.3  # opacity; splats below make no surface
_SMOOTH = 1 / 6  # rounds of smoothing a cell along the longest side: until no balls are to be seen
CELLS = 128  # along the longest side, unless asked for others


def mesh_of(body: bpy.types.Object, cells: int = CELLS) -> bpy.types.Object:
    """A mesh of the splats as they are now, where they are; it is in no collection yet.

    Args:
        cells: along its longest side.

    Raises:
        DioramaError: E_MESH if the splats have no surface.
    """
    cloud = cloud_in(body.data)
    kept = inside_crop(body, cloud.means) & (cloud.opacities >= _FAINT)
    if not kept.any():
        raise DioramaError(
            "E_MESH", f"{body.name} has no surface", "Its splats are all too faint, or cropped away."
        )
    cloud = cloud.only(kept)
    name = f"{body.name.removesuffix(' splats')} mesh"
    points = _points(name, cloud)
    maker = bpy.data.objects.new(name, points)
    try:
        bpy.context.scene.collection.objects.link(maker)
        modifier = maker.modifiers.new(_GROUP, "NODES")
        modifier.node_group = shared(bpy.data.node_groups, _GROUP, _build_group, "GeometryNodeTree")
        cell = float(np.ptp(cloud.means, axis=0).max()) / cells
        set_inputs(modifier, Cell=max(cell, 1e-6), Smooth=round(cells * _SMOOTH))
        depsgraph = bpy.context.evaluated_depsgraph_get()
        made = bpy.data.meshes.new_from_object(
            maker.evaluated_get(depsgraph), preserve_all_data_layers=True, depsgraph=depsgraph
        )
    finally:
        bpy.data.objects.remove(maker)
        bpy.data.meshes.remove(points)
    if not len(made.polygons):
        bpy.data.meshes.remove(made)
        raise DioramaError("E_MESH", f"{body.name} has no surface", "Try again with fewer cells.")
    made.name = name
    made.materials.clear()
    made.materials.append(_material(name))
    shown = np.average(_light(cloud), axis=0, weights=cloud.opacities)
    made.materials[0].diffuse_color = (*shown, 1.0)  # what Solid shading shows
    made.color_attributes.active_color_name = _COLOUR
    result = bpy.data.objects.new(name, made)
    hierarchy.mark_part(result, hierarchy.MESH)
    result.parent, result.matrix_parent_inverse = body.parent, body.matrix_parent_inverse
    result.matrix_basis = body.matrix_basis
    return result


def _points(name: str, cloud: GaussianCloud) -> bpy.types.Mesh:
    """Splats as points with a radius and a colour."""
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(cloud))
    mesh.vertices.foreach_set("co", np.ascontiguousarray(cloud.means, np.float32).ravel())
    for attribute, kind, values in (
        (_RADIUS, "FLOAT", np.sort(cloud.scales, axis=1)[:, 1:].mean(axis=1)),
        (_COLOUR, "FLOAT_VECTOR", _light(cloud)),
    ):
        data = mesh.attributes.new(attribute, kind, "POINT").data
        data.foreach_set("value" if kind == "FLOAT" else "vector", np.float32(values).ravel())
    return mesh


def _light(cloud: GaussianCloud) -> np.ndarray:  # [N, 3]
    """The colours of the constant harmonic, linear."""
    return srgb_to_linear(np.clip(0.5 + SH_C0 * cloud.sh[:, 0].astype(np.float64), 0, 1))


def _build_group(group: bpy.types.NodeTree) -> None:
    group.is_modifier = True
    group.description = "Wraps points in a surface that has their colours"
    new = group.interface.new_socket
    new("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    new("Cell", in_out="INPUT", socket_type="NodeSocketFloat", description="Size of the faces, in metres")
    new("Smooth", in_out="INPUT", socket_type="NodeSocketInt", description="How often bumps are levelled")
    new("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    f = Formulas(group)
    with f.frame("Balls about the splats, as one volume, and its surface"):
        points = f.node("GeometryNodeMeshToPoints", f.input("Geometry"), None, None, None).first
        cell = f.input("Cell")
        radius = f.maximum(named(f, _RADIUS, "FLOAT") * _CLOSING, cell * 1.5)  # thinner, it has holes
        by_size = {"resolution_mode": "VOXEL_SIZE"} if bpy.app.version < (5, 0) else {}
        volume = f.node(
            "GeometryNodePointsToVolume",
            points,
            settings=by_size,
            Density=1.0,
            Radius=radius,
            Voxel_Size=cell,
        )
        if not by_size:  # since 5.0, that is an input
            volume.node.inputs["Resolution Mode"].default_value = "Size"
        surface = f.node("GeometryNodeVolumeToMesh", volume.first, Threshold=0.1)
    with f.frame("Back by what the balls stand out"):
        normal = f.node("GeometryNodeInputNormal").first
        inwards = f.vector_math("SCALE", normal, Scale=_nearest(f, radius, "FLOAT") * -_BACK)
        surface = f.node("GeometryNodeSetPosition", surface.first, None, None, inwards)
    with f.frame("Bumps of the balls are levelled"):
        place = f.node("GeometryNodeInputPosition").first
        level = _levelled(f, place, f.input("Smooth"))
        surface = f.node("GeometryNodeSetPosition", surface.first, None, level)
    with f.frame("Colours of the nearest splats"):
        smooth = f.node("GeometryNodeSetShadeSmooth", surface.first).first
        colour = _nearest(f, named(f, _COLOUR, "FLOAT_VECTOR"), "FLOAT_VECTOR")
        colour = _levelled(f, colour, f.input("Smooth") * 0.25)
        coloured = store(f, smooth, _COLOUR, "FLOAT_COLOR", "POINT", colour)
    f.node("NodeGroupOutput", coloured)


def _nearest(f: Formulas, value: Field, kind: str) -> Field:
    """What the splat next to each place of the surface has."""
    nearest = f.node("GeometryNodeSampleNearest", f.input("Geometry")).first
    settings = {"data_type": kind}
    return f.node("GeometryNodeSampleIndex", f.input("Geometry"), value, nearest, settings=settings).first


def _levelled(f: Formulas, value: Field, iterations: Field) -> Field:
    """A vector of every place, blended with those of its neighbours."""
    settings = {"data_type": "FLOAT_VECTOR"}
    return f.node("GeometryNodeBlurAttribute", settings=settings, Value=value, Iterations=iterations).first


def _material(name: str) -> bpy.types.Material:
    material = bpy.data.materials.new(name)
    if material.node_tree is None:  # up to 4.5
        material.use_nodes = True
    tree = material.node_tree
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Roughness"].default_value = 0.8
    colour = tree.nodes.new("ShaderNodeVertexColor")
    colour.layer_name = _COLOUR
    colour.location = (-300, 200)
    tree.links.new(colour.outputs["Color"], shader.inputs["Base Color"])
    return material
