"""How long splats take to come into Blender and to follow the camera, against an import splat by splat.

Run with the host's Python: `python -m tests.bench.bench_scene`; prints one JSON object.
"""

# ruff: noqa: E402 (the folder for Blender's settings is chosen before Blender is imported)

from __future__ import annotations

import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
os.environ["BLENDER_USER_RESOURCES"] = tempfile.mkdtemp(prefix="diorama-bench-")

import bpy

import build_addon
from backend.shared.ply import GaussianCloud, read_ply, write_ply
from tests.blender.scene_helpers import add_camera, make_cloud, orbit

MILLION = 1_000_000
REPEATS = 9


def seconds(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def import_one_by_one(cloud: GaussianCloud) -> None:
    """What a loop in Python takes: the same attributes, an element at a time."""
    mesh = bpy.data.meshes.new("slow")
    mesh.from_pydata([tuple(mean) for mean in cloud.means], [], [])
    for name, kind, values in (
        ("rotation", "QUATERNION", cloud.quats),
        ("scale", "FLOAT_VECTOR", cloud.scales),
        ("sh_0", "FLOAT_VECTOR", cloud.sh[:, 0]),
    ):
        data = mesh.attributes.new(name, kind, "POINT").data
        for i, value in enumerate(values):
            setattr(data[i], "value" if kind == "QUATERNION" else "vector", tuple(value))
    data = mesh.attributes.new("opacity", "FLOAT", "POINT").data
    for i, opacity in enumerate(cloud.opacities):
        data[i].value = float(opacity)


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    bpy.ops.extensions.package_install_files(
        filepath=str(build_addon.build(folder)), repo="user_default", enable_on_install=True
    )
    extension = importlib.import_module("bl_ext.user_default.diorama")
    # Written by another process, so that the peak of memory is the import's.
    subprocess.run([sys.executable, "-m", "tests.bench.bench_scene", str(folder)], cwd=ROOT, check=True)
    results: dict[str, object] = {"blender": bpy.app.version_string, "cpus": os.cpu_count()}

    for degree in (0, 3):
        bpy.ops.wm.read_homefile(use_empty=True)
        path = folder / f"million_{degree}.ply"
        before = peak_gb()
        taken = seconds(lambda path=path: bpy.ops.diorama.import_splats(filepath=str(path)))
        results[f"import of 1M splats, degree {degree}, s"] = round(taken, 2)
        results[f"memory peak before and after, degree {degree}, GB"] = [
            round(before, 2),
            round(peak_gb(), 2),
        ]

    few = read_ply(folder / "million_0.ply")
    few = GaussianCloud(**{name: values[: MILLION // 50] for name, values in vars(few).items()})
    results["the same splat by splat, degree 0, s"] = round(50 * seconds(lambda: import_one_by_one(few)), 1)

    for degree in (0, 3):
        bpy.ops.wm.read_homefile(use_empty=True)
        mesh = extension.scene.splats.splat_mesh("splats", make_cloud(100_000, degree))
        splats = extension.scene.splats.splat_object("splats", mesh, "linear")
        bpy.context.scene.collection.objects.link(splats)
        camera = add_camera(orbit(1)[0])
        for free in (False, True):
            extension.scene.modifier_inputs.set_inputs(splats.modifiers[0], Free_View=free)
            bpy.context.view_layer.update()
            times = []
            for step in range(REPEATS):
                camera.location.x += 0.01 * step
                times.append(seconds(bpy.context.view_layer.update))
            what = "free viewing" if free else "exact"
            results[f"100k splats after a camera move, degree {degree}, {what}, ms"] = round(
                1000 * statistics.median(times), 1
            )
    print(json.dumps(results, indent=1))


def write_files(folder: Path) -> None:
    for degree in (0, 3):
        write_ply(folder / f"million_{degree}.ply", make_cloud(MILLION, degree))


if __name__ == "__main__":
    write_files(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
