"""The mesh that the tests in Blender import is one as the backend makes them now."""

from __future__ import annotations

import io

import numpy as np
import trimesh
from PIL import ImageChops

from tests.gaussians.box import GLB, mesh_of_box


def test_mesh_for_the_tests_in_blender_is_what_the_backend_makes() -> None:
    made, kept = (
        trimesh.load(io.BytesIO(data), "glb", force="mesh") for data in (mesh_of_box(), GLB.read_bytes())
    )
    assert made.faces.shape == kept.faces.shape
    np.testing.assert_allclose(made.bounds, kept.bounds, atol=1e-4)
    np.testing.assert_allclose(made.area, kept.area, rtol=1e-3)
    textures = (mesh.visual.material.baseColorTexture.convert("RGB") for mesh in (made, kept))
    assert np.asarray(ImageChops.difference(*textures)).mean() < 2
