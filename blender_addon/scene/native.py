"""Blender's own splats (from 5.3): point clouds of a type of their own, made of clouds and read as clouds.

They hold what splats are, to the last bit, with harmonics of degree 0 to 3. What the nodes of Diorama's
objects add has no place in them: display blending, tint, brightness, size, density, crop, lights.
"""

from __future__ import annotations

import bpy
import numpy as np

from ..backend.shared.ply import GaussianCloud
from ..backend.shared.protocol import DioramaError

TYPE = "GAUSSIAN_SPLAT"
_BASE, _HIGHER = "radiance:base", "radiance:sh_"
_PROPERTY = {"FLOAT_VECTOR": "vector", "QUATERNION": "value", "FLOAT4": "vector", "FLOAT_COLOR": "color"}


REPRESENTATIONS = [
    (
        "NODES",
        "Diorama Splats",
        "Exact with one sample, in Cycles and EEVEE; with tint, crop and display blending",
    ),
    (
        "NATIVE",
        "Blender's Splats",
        "From Blender 5.3; drawn by Blender itself, noisier, and mixed as light only",
    ),
]
_BLENDING = "splat_blending"  # of an object: how its splats are blended where that can be chosen


def is_available() -> bool:
    """Whether this Blender has splats of its own."""
    return "type" in bpy.types.PointCloud.bl_rna.properties


def ensure_available() -> None:
    """Raises DioramaError: E_REQUEST in a Blender that has no splats of its own."""
    if not is_available():
        raise DioramaError(
            "E_REQUEST",
            f"Blender {bpy.app.version_string} has no splats of its own",
            "Use Blender 5.3 or later, or Diorama's splats.",
        )


def is_native(candidate: bpy.types.Object | None) -> bool:
    """Whether an object is one of Blender's own splats."""
    if candidate is None or candidate.type != "POINTCLOUD":
        return False
    return getattr(candidate.data, "type", "") == TYPE and all(
        name in candidate.data.attributes for name in ("rotation", "scale", _BASE)
    )


def note_blending(body: bpy.types.Object, blending: str) -> None:
    """Remember how splats are meant to be blended, for when they are converted or exported."""
    body[_BLENDING] = blending


def noted_blending(body: bpy.types.Object) -> str:
    """How splats are meant to be blended; as light, as they are shown, if nothing is known."""
    return str(body.get(_BLENDING, "linear"))


def native_points(name: str, cloud: GaussianCloud) -> bpy.types.PointCloud:
    """A point cloud of Blender's own splats.

    Raises:
        DioramaError: E_REQUEST in a Blender that has none.
    """
    ensure_available()
    points = bpy.data.pointclouds.new(name)
    points.resize(len(cloud))
    fill(points, cloud)
    return points


def fill(points: bpy.types.PointCloud, cloud: GaussianCloud) -> None:
    """Make splats of the points of a point cloud, which are as many."""
    columns = [
        ("position", "FLOAT_VECTOR", cloud.means),
        ("rotation", "QUATERNION", cloud.quats),
        ("scale", "FLOAT_VECTOR", cloud.scales),
        (_BASE, "FLOAT4", np.concatenate([cloud.sh[:, 0], cloud.opacities[:, None]], axis=1)),
        *((f"{_HIGHER}{i - 1}", "FLOAT_VECTOR", cloud.sh[:, i]) for i in range(1, cloud.sh.shape[1])),
    ]
    for name, kind, content in columns:
        attribute = points.attributes.get(name) or points.attributes.new(name, kind, "POINT")
        attribute.data.foreach_set(_PROPERTY[kind], np.ascontiguousarray(content, np.float32).ravel())
    points.type = TYPE


def cloud_in(points: bpy.types.PointCloud | bpy.types.Mesh) -> GaussianCloud:
    """The cloud in a point cloud of Blender's own splats, or in a mesh that was one."""
    degree = 0
    while degree < 3 and all(f"{_HIGHER}{i}" in points.attributes for i in range((degree + 2) ** 2 - 1)):
        degree += 1
    base = _values(points, _BASE)
    higher = [_values(points, f"{_HIGHER}{i}") for i in range((degree + 1) ** 2 - 1)]
    return GaussianCloud(
        means=_values(points, "position"),
        quats=_values(points, "rotation"),
        scales=_values(points, "scale"),
        opacities=base[:, 3].copy(),
        sh=np.stack([base[:, :3], *higher], axis=1),
    )


def forget(data: bpy.types.Mesh) -> None:
    """Take away what a mesh that was made of such a point cloud has of it, but the places."""
    for name in [each.name for each in data.attributes]:
        if name in ("rotation", "scale", _BASE) or name.startswith(_HIGHER):
            data.attributes.remove(data.attributes[name])


def _values(points: bpy.types.PointCloud | bpy.types.Mesh, name: str) -> np.ndarray:  # [N, 3 or 4]
    attribute = points.attributes[name]
    found = np.empty((len(attribute.data), 3 if attribute.data_type == "FLOAT_VECTOR" else 4), np.float32)
    attribute.data.foreach_get(_PROPERTY[attribute.data_type], found.ravel())
    return found
