"""Checks what the 3D view shows of splats against the exact reference; to be run in a Blender with a window.

    python build_addon.py
    blender FILE.blend --python tests/window/viewport.py

A GPU is needed, which bpy as a module does not have, so this is no pytest. Blender ends with 1 if a check
fails; the figures are printed, and written to dist/viewport.json.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path

import bpy
import gpu
import numpy as np
from mathutils import Matrix

sys.path[:0] = [str(Path(__file__).parents[1] / "blender")]  # Blender runs this file by its path
reference = importlib.import_module("splat_reference")

ZIP = Path(__file__).parents[2] / "dist" / "diorama.zip"
SIZE, LEAST_DB = 128, 35.0


def main() -> None:
    bpy.ops.extensions.package_install_files(filepath=str(ZIP), repo="user_default", enable_on_install=True)
    addon = importlib.import_module("bl_ext.user_default.diorama")
    found = check(addon)
    print(json.dumps(found, indent=1))
    ZIP.with_name("viewport.json").write_text(json.dumps(found, indent=1))
    assert all(value >= LEAST_DB for value in found.values()), found
    check_dots(addon)


def check(addon) -> dict[str, float]:
    """PSNR, in display values, of offscreen paintings against the reference."""
    painter_module = importlib.import_module(f"{addon.__name__}.scene.viewport_painter")
    cloud_type = importlib.import_module(f"{addon.__name__}.backend.shared.ply").GaussianCloud
    found = {}
    for degree, linear, orthographic in (
        (0, True, False),
        (0, False, False),
        (3, True, False),
        (0, True, True),
    ):
        cloud = make_cloud(cloud_type, 500, degree)
        look = painter_module.Look(linear=linear, sh_degree=degree)
        painter = painter_module.Painter()
        pose = look_from(np.array([1.6, -1.8, 0.9]))
        pixel = 0.02 if orthographic else 0.007
        focal = 2 / (pixel * SIZE)
        projection = np.diag([focal, focal, -2 / 99.99 if orthographic else -100.01 / 99.99, 0.0])
        projection[2, 3] = -100.01 / 99.99 if orthographic else -2 * 100 * 0.01 / 99.99
        projection[3, 2 if not orthographic else 3] = 1.0 if orthographic else -1.0
        thing = painter_module.Thing(painter_module.splats_from(cloud, look), Matrix(), (degree,))
        target = painter.paint(
            [thing],
            Matrix(np.linalg.inv(pose).tolist()),
            Matrix(projection.tolist()),
            (SIZE, SIZE),
            linear=linear,
        )
        with target.bind():
            pixels = target.read_color(0, 0, SIZE, SIZE, 4, 0, "FLOAT")
        image = np.asarray(pixels).reshape(SIZE, SIZE, 4)[::-1, :, :3]
        blending = "linear" if linear else "display"
        exact = reference.render(
            cloud, pose, SIZE, SIZE, pixel=pixel, blending=blending, orthographic=orthographic
        )
        if linear:
            image, exact = reference.linear_to_srgb(image), reference.linear_to_srgb(exact)
        name = f"degree {degree}, {blending}{', orthographic' if orthographic else ''}"
        found[name] = round(float(reference.psnr(image, np.clip(exact, 0, 1))), 1)
        painter.close()
    return found


def check_dots(addon) -> None:
    """The nearer of two dots is taken for Blender's, also from behind, before that view is sorted."""
    painter_module = importlib.import_module(f"{addon.__name__}.scene.viewport_painter")
    cloud_type = importlib.import_module(f"{addon.__name__}.backend.shared.ply").GaussianCloud
    cloud = make_cloud(cloud_type, 2, 0)
    cloud.means[:] = [[0.5, 0, 0], [-0.5, 0, 0]]
    painter = painter_module.Painter()
    thing = painter_module.Thing(painter_module.splats_from(cloud, painter_module.Look()), Matrix(), (0,))
    projection = np.diag([3.0, 3.0, -100.01 / 99.99, 0.0])
    projection[2, 3], projection[3, 2] = -2 * 100 * 0.01 / 99.99, -1.0
    depths = gpu.types.GPUTexture(
        (SIZE, SIZE), format="R32F", data=gpu.types.Buffer("FLOAT", SIZE**2, [1] * SIZE**2)
    )
    for side in (2.0, -2.0):
        camera_from_world = np.linalg.inv(look_from(np.array([side, 0.0, 0.0])))
        matrices = Matrix(camera_from_world.tolist()), Matrix(projection.tolist())
        painter.paint([thing], *matrices, (SIZE, SIZE), linear=True, depths=depths)
        dots = np.asarray(painter._target((SIZE, SIZE))[3][0].read()).reshape(SIZE, SIZE, 2)[:, :, 1]
        nearer = projection @ camera_from_world @ [side / 4, 0, 0, 1]
        assert abs(dots[SIZE // 2, SIZE // 2] - (nearer[2] / nearer[3] + 1) / 2) < 1e-5, side
    painter.close()


def make_cloud(cloud_type, count: int, degree: int):
    rng = np.random.default_rng(0)
    quats = rng.normal(size=(count, 4))
    sh = rng.normal(size=(count, (degree + 1) ** 2, 3)) * 0.1
    sh[:, 0] = rng.uniform(-1.5, 1.7, (count, 3))
    return cloud_type(
        means=(rng.normal(size=(count, 3)) * 0.25).astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        scales=np.exp(rng.normal(size=(count, 3)) * 0.6 - 3.3).astype(np.float32),
        opacities=rng.uniform(0.02, 1, count).astype(np.float32),
        sh=sh.astype(np.float32),
    )


def look_from(eye: np.ndarray) -> np.ndarray:
    """Camera-to-world of a camera that looks at the origin."""
    back = eye / np.linalg.norm(eye)
    right = np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, eye], axis=1)
    return pose


def run() -> None:
    code = 0
    try:
        main()
    except Exception:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Blender's own way to end asks about unsaved files


bpy.app.timers.register(run, first_interval=1.0)
