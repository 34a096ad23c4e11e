"""Diorama's splats beside Blender's own (5.3): exactness, noise, seconds, memory, and objects that are moved.

Run with a Python that has bpy 5.3: python tests/bench/native_splats.py [COUNT ...]; prints the tables of
docs/formats.md. Seconds are of the processor, so that what else runs hardly counts.
"""

# ruff: noqa: E402 (the folder for Blender's settings is chosen before Blender is imported)

from __future__ import annotations

import importlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ["BLENDER_USER_RESOURCES"] = tempfile.mkdtemp(prefix="diorama-bench-")

import bpy
import numpy as np
from mathutils import Euler, Matrix

import build_addon
from backend.shared.ply import write_ply
from tests.blender.scene_helpers import add_camera, make_cloud, orbit, pixel_size, prepare, render
from tests.blender.splat_reference import psnr
from tests.blender.splat_reference import render as reference

FEW, SIZE = 2000, 128
POSE = orbit(4)[1]
TURN = Euler((0.4, 0.7, 0.2)).to_matrix().to_4x4()
PLACES = {
    "as it is": Matrix(),
    "turned": TURN,
    "grown, 1.5": Matrix.Scale(1.5, 4),
    "stretched, 1.5 × 1 × 0.6": TURN @ Matrix.Diagonal((1.5, 1, 0.6, 1)),
}
SAMPLES = {"NODES": (1,), "NATIVE": (1, 16, 128)}


def scene_with(path: Path, representation: str, size: int) -> bpy.types.Object:
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.diorama.import_splats(filepath=str(path), representation=representation, blending="LINEAR")
    body = bpy.context.active_object
    prepare(size, size)
    add_camera(POSE)
    return body


def shot(folder: Path, samples: int, seed: int = 0) -> np.ndarray:
    bpy.context.scene.cycles.samples, bpy.context.scene.cycles.seed = samples, seed
    return render(folder)


def exactness(folder: Path) -> None:
    cloud = make_cloud(FEW, 3)
    path = folder / "few.ply"
    write_ply(path, cloud)
    expected = {
        name: reference(
            cloud, POSE, SIZE, SIZE, pixel=pixel_size(40, SIZE), world_from_object=np.array(place)
        )
        for name, place in PLACES.items()
    }
    print(f"\n| {FEW} splats, degree 3, Cycles, dB | {' | '.join(PLACES)} | instanced, turned | noise |")
    print(f"|---|{'---|' * (len(PLACES) + 2)}")
    for representation, counts in SAMPLES.items():
        for samples in counts:
            body = scene_with(path, representation, SIZE)
            cells = []
            for name, place in PLACES.items():
                body.matrix_world = place
                cells.append(f"{psnr(shot(folder, samples), expected[name]):.1f}")
            body.matrix_world = Matrix()
            noise = np.std(shot(folder, samples, 1) - shot(folder, samples, 2))
            cells += [instanced(folder, body, samples, expected["turned"]), f"{noise:.4f}"]
            print(f"| {representation.lower()}, samples: {samples} | {' | '.join(cells)} |", flush=True)


def instanced(folder: Path, body: bpy.types.Object, samples: int, expected: np.ndarray) -> str:
    home = bpy.data.collections.new("instanced")
    for each in list(body.users_collection):
        each.objects.unlink(body)
    home.objects.link(body)
    empty = bpy.data.objects.new("instance", None)
    empty.instance_type, empty.instance_collection = "COLLECTION", home
    empty.matrix_world = TURN
    bpy.context.scene.collection.objects.link(empty)
    return f"{psnr(shot(folder, samples), expected):.1f}"


def costs(folder: Path, count: int, representation: str) -> None:
    """One line of the table, in a process of its own, so that its peak of memory is its own."""
    path = folder / f"{count}.ply"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    start = time.process_time()
    body = scene_with(path, representation, 256)
    cells = [f"{time.process_time() - start:.2f}"]
    for engine, samples in (("CYCLES", SAMPLES[representation][-1]), ("BLENDER_EEVEE", 1)):
        bpy.context.scene.render.engine = engine
        start = time.process_time()
        try:
            picture = shot(folder, samples)
            shown = picture.max() > 0.01
            cells.append(f"{time.process_time() - start:.1f}" if shown else "black")
        except RuntimeError as error:
            cells.append(str(error).strip().splitlines()[-1][:60])
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    cells.append(f"{after - before:.0f}")
    print(f"| {count:,} as {representation.lower()} | {' | '.join(cells)} |", flush=True)
    assert body.name


def install() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bpy.ops.extensions.package_install_files(
            filepath=str(build_addon.build(Path(folder))), repo="user_default", enable_on_install=True
        )
    importlib.import_module("bl_ext.user_default.diorama")


def main(counts: list[int]) -> None:
    folder = Path(tempfile.mkdtemp())
    install()
    print(f"Blender {bpy.app.version_string}", flush=True)
    exactness(folder)
    print(
        "\n| 256 px, degree 3 | import, s | Cycles, s | EEVEE, s | memory, MB |\n|---|---|---|---|---|",
        flush=True,
    )
    for count in counts:
        cloud = make_cloud(count, 3)
        # More splats are smaller ones: as many lie behind a pixel, as in a scene of finer detail.
        write_ply(folder / f"{count}.ply", replace(cloud, scales=cloud.scales * (FEW / count) ** 0.5))
        for representation in SAMPLES:
            command = [sys.executable, __file__, str(folder), str(count), representation]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
            print(lines[-1] if lines else f"| {count} as {representation}: {done.stderr[-200:]}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 2 and not sys.argv[1].isdecimal():
        install()
        costs(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    else:
        main([int(each) for each in sys.argv[1:]] or [100_000])
