"""USD with a ParticleField3DGaussianSplat prim, through the USD that Blender brings (from 4.4).

Where that USD has no such schema (before Blender 5.3), the prim is written all the same, by the names of the
schema's attributes, which newer programs know. Nothing is lost.
"""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from ..backend.shared.output_folder import whole_file
from ..backend.shared.ply import GaussianCloud
from ..backend.shared.protocol import DioramaError
from ..backend.shared.splat_transform import rotations

LABEL, SUFFIX = "USD", ".usdc"
_KIND = "ParticleField3DGaussianSplat"


def write_usd(path: Path, cloud: GaussianCloud) -> None:
    """Write a cloud; its Y is up, and its metres are the file's.

    Raises:
        DioramaError: E_REQUEST where Blender brings no USD for scripts.
        OSError: if it cannot be written; an earlier file of that name is then still there.
    """
    if hasattr(bpy.utils, "expose_bundled_modules"):
        bpy.utils.expose_bundled_modules()
    try:
        from pxr import Sdf, Usd, UsdGeom, Vt
    except ImportError as error:
        raise DioramaError(
            "E_REQUEST",
            f"Blender {bpy.app.version_string} has no USD for add-ons",
            "Use Blender 4.4 or later, or write another format.",
        ) from error

    types = Sdf.ValueTypeNames
    reach = np.sqrt(
        np.einsum("nij,nj->ni", rotations(cloud.quats) ** 2, (3 * cloud.scales.astype(np.float64)) ** 2)
    )
    extent = np.array([(cloud.means - reach).min(axis=0), (cloud.means + reach).max(axis=0)], np.float32)
    x_y_z_w = np.ascontiguousarray(np.roll(cloud.quats, -1, axis=1))  # as USD keeps quaternions in memory
    attributes = [
        ("positions", types.Point3fArray, Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(cloud.means))),
        ("orientations", types.QuatfArray, Vt.QuatfArray.FromNumpy(x_y_z_w)),
        ("scales", types.Float3Array, Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(cloud.scales))),
        ("opacities", types.FloatArray, Vt.FloatArray.FromNumpy(np.ascontiguousarray(cloud.opacities))),
        ("radiance:sphericalHarmonicsDegree", types.Int, cloud.sh_degree),
        (
            "radiance:sphericalHarmonicsCoefficients",
            types.Float3Array,
            Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(cloud.sh.reshape(-1, 3))),
        ),
        ("extent", types.Float3Array, Vt.Vec3fArray.FromNumpy(extent)),
    ]
    with whole_file(path) as partial:
        named = partial.with_name(f"{partial.name}{SUFFIX}")  # by its name, USD chooses the form
        stage = Usd.Stage.CreateNew(str(named))
        try:
            UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
            UsdGeom.SetStageMetersPerUnit(stage, 1.0)
            prim = stage.DefinePrim("/Splats", _KIND)
            stage.SetDefaultPrim(prim)
            for name, kind, value in attributes:
                prim.CreateAttribute(name, kind, name == "radiance:sphericalHarmonicsDegree").Set(value)
            stage.GetRootLayer().Save()
            named.replace(partial)
        finally:
            named.unlink(missing_ok=True)
