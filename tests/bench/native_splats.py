"""Diorama's splats beside Blender's own (5.3): exactness, noise, seconds, memory, motion, farms.

Run with a Python that has bpy 5.3: python tests/bench/native_splats.py TABLE [COUNT ...]; prints a table of
docs/formats.md: exactness, costs, motion, import, view or farm. Seconds are of the processor, so that what
else runs hardly counts.
"""

# ruff: noqa: E402 (the folder for Blender's settings is chosen before Blender is imported)

from __future__ import annotations

import importlib
import os
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
import gpu
import numpy as np
from mathutils import Euler, Matrix

import build_addon
from backend.shared.ply import read_ply, write_ply
from tests.blender.scene_helpers import (
    add_camera,
    make_cloud,
    orbit,
    pixel_size,
    prepare,
    read_image,
    render,
)
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
    bpy.context.scene.eevee.taa_render_samples = samples
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
    columns = " | ".join([*PLACES, "instanced, turned", "made real", "noise"])
    print(f"\n| {FEW} splats, degree 3, dB | {columns} |")
    print(f"|---|{'---|' * (len(PLACES) + 3)}")
    for representation, counts in SAMPLES.items():
        for engine, samples in [*(("CYCLES", each) for each in counts), ("BLENDER_EEVEE", 16)]:
            body = scene_with(path, representation, SIZE)
            bpy.context.scene.render.engine = engine
            cells = []
            for name, place in PLACES.items():
                body.matrix_world = place
                cells.append(f"{psnr(shot(folder, samples), expected[name]):.1f}")
            body.matrix_world = Matrix()
            noise = np.std(shot(folder, samples, 1) - shot(folder, samples, 2))
            cells += [*instanced(folder, body, samples, expected["turned"]), f"{noise:.4f}"]
            name = f"{representation.lower()}, {engine}, samples: {samples}"
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def instanced(folder: Path, body: bpy.types.Object, samples: int, expected: np.ndarray) -> list[str]:
    """Of a collection that is instanced, and of what Make Instances Real makes of that."""
    home = bpy.data.collections.new("instanced")
    for each in list(body.users_collection):
        each.objects.unlink(body)
    home.objects.link(body)
    empty = bpy.data.objects.new("instance", None)
    empty.instance_type, empty.instance_collection = "COLLECTION", home
    empty.matrix_world = TURN
    bpy.context.scene.collection.objects.link(empty)
    cells = [f"{psnr(shot(folder, samples), expected):.1f}"]
    if not bpy.ops.diorama.make_instances_real.poll():  # Blender's own splats need it not
        return [*cells, "–"]
    bpy.ops.diorama.make_instances_real()
    return [*cells, f"{psnr(shot(folder, samples), expected):.1f}"]


def alone(*arguments: object, without_add_on: bool = False) -> str:
    """What one line of a table, made in a process of its own, says: its peak of memory is its own."""
    environment = dict(os.environ)
    if without_add_on:
        environment["BLENDER_USER_RESOURCES"] = tempfile.mkdtemp(prefix="diorama-bench-")
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    return lines[-1] if lines else f"| {' '.join(map(str, arguments))}: {done.stderr[-300:]}"


def finer(folder: Path, count: int) -> Path:
    """A file of that many splats: more of them are smaller ones, so that as many lie behind a pixel."""
    path = folder / f"{count}.ply"
    cloud = make_cloud(count, 3)
    write_ply(path, replace(cloud, scales=cloud.scales * (FEW / count) ** 0.5))
    return path


def peak_mb() -> float:
    """Of this process on Linux: getrusage counts what the process was forked from, too."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10


def costs(folder: Path, path: Path, representation: str) -> str:
    before, start = peak_mb(), time.process_time()
    scene_with(path, representation, 256)
    cells = [f"{time.process_time() - start:.2f}"]
    for engine, samples in (("CYCLES", SAMPLES[representation][-1]), ("BLENDER_EEVEE", 1)):
        bpy.context.scene.render.engine = engine
        start = time.process_time()
        picture = shot(folder, samples)
        cells.append(f"{time.process_time() - start:.1f}" if picture.max() > 0.01 else "black")
        cells.append(f"{peak_mb() - before:.0f}")
    return f"| {path.stem} as {representation.lower()} | {' | '.join(cells)} |"


def imports(_folder: Path, path: Path, representation: str) -> str:
    before, start, clock = peak_mb(), time.process_time(), time.perf_counter()
    body = scene_with(path, representation, 256)
    seconds, passed = time.process_time() - start, time.perf_counter() - clock
    size = len(body.data.attributes["position"].data)
    return (
        f"| {size:,} as {representation.lower()} | {seconds:.1f} | {passed:.1f} | {peak_mb() - before:.0f} |"
    )


def motion(folder: Path, path: Path, representation: str) -> str:
    """Four frames of tracked splats: what a change of frame costs, on a frame and between two."""
    cloud = read_ply(path)
    clouds = [replace(cloud, means=cloud.means + np.float32(0.1 * i)) for i in range(4)]
    names = [{"name": f"moving_{i}.ply"} for i in range(4)]
    for name, each in zip(names, clouds, strict=True):
        write_ply(folder / name["name"], each)
    before, start = peak_mb(), time.process_time()
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.diorama.import_splats(
        filepath=str(folder / "moving_0.ply"),
        directory=str(folder),
        files=names,
        representation=representation,
        blending="LINEAR",
    )
    cells = [f"{time.process_time() - start:.2f}"]
    body = bpy.context.active_object
    add_camera(POSE)
    sequences = importlib.import_module("bl_ext.user_default.diorama").scene.sequences
    sequences.set_inputs(body.modifiers[sequences.GROUP_NAME], Interpolate=True)
    scene = bpy.context.scene
    scene.frame_set(1)
    for subframe in (0.0, 0.5):
        start = time.process_time()
        for frame in (2, 3, 4):
            scene.frame_set(frame, subframe=subframe)
        cells.append(f"{(time.process_time() - start) / 3:.2f}")
    cells.append(f"{peak_mb() - before:.0f}")
    return f"| {len(cloud):,} as {representation.lower()}, 4 frames | {' | '.join(cells)} |"


def view(_folder: Path, path: Path, representation: str) -> str:
    """Frames of a 3D view that turns around the splats, 512 px: by the add-on's painter, or by Blender."""
    gpu.init()
    body = scene_with(path, representation, 512)
    target = gpu.types.GPUOffScreen(512, 512)
    depsgraph = bpy.context.evaluated_depsgraph_get()
    projection = bpy.context.scene.camera.calc_matrix_camera(depsgraph, x=512, y=512)
    views = [Matrix(pose.tolist()).inverted() for pose in orbit(9)]
    if representation == "NODES":
        add_on = importlib.import_module("bl_ext.user_default.diorama").scene
        painting = importlib.import_module(add_on.__name__ + ".viewport_painter")
        painter = painting.Painter()
        cloud = add_on.splats.splats_of(body)
        thing = painting.Thing(
            painting.splats_from(cloud, painting.Look(linear=True, sh_degree=3)), Matrix(), (0,)
        )

        def draw(matrix: Matrix) -> None:
            painter.paint([thing], matrix, projection, (512, 512), linear=True).read_color(
                0, 0, 8, 8, 4, 0, "FLOAT"
            )
    else:
        screen = next(each for each in bpy.data.screens if any(a.type == "VIEW_3D" for a in each.areas))
        area = next(each for each in screen.areas if each.type == "VIEW_3D")
        region = next(each for each in area.regions if each.type == "WINDOW")

        def draw(matrix: Matrix) -> None:
            scene, layer, space = bpy.context.scene, bpy.context.view_layer, area.spaces.active
            target.draw_view3d(scene, layer, space, region, matrix, projection)
            target.texture_color.read()

    def seconds() -> str:
        draw(views[0])  # compiles shaders
        start = time.process_time()
        for matrix in views[1:]:
            draw(matrix)
        return f"{(time.process_time() - start) / 8:.2f}"

    shown, empty = seconds(), "–"
    if representation == "NATIVE":  # what Blender draws besides
        body.hide_viewport = True
        bpy.context.view_layer.update()
        empty = seconds()
    return f"| {path.stem} as {representation.lower()} | {shown} | {empty} |"


def farm(folder: Path, path: Path, representation: str) -> str:
    """The same .blend rendered with the add-on, and by a Blender that has never seen it."""
    cells = []
    for engine in ("CYCLES", "BLENDER_EEVEE"):
        scene_with(path, representation, SIZE)
        bpy.context.scene.render.engine = engine
        here = shot(folder, 16)
        bpy.ops.wm.save_as_mainfile(filepath=str(folder / "farm.blend"))
        said = alone("opened", folder / "farm.blend", without_add_on=True)
        there = read_image(folder / "farm.exr")
        same = "the same pixels" if np.array_equal(here, there) else f"{psnr(here, there):.1f} dB"
        cells.append(same if said.startswith("| rendered") else said)
    return f"| {representation.lower()} | {' | '.join(cells)} |"


def opened(path: Path) -> str:
    """Render a saved file without the add-on."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    assert not hasattr(bpy.types, "DIORAMA_OT_import_splats")
    bpy.ops.wm.open_mainfile(filepath=str(path))
    bpy.context.scene.render.filepath = str(path.with_suffix(".exr"))
    bpy.ops.render.render(write_still=True)
    return "| rendered"


def install() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bpy.ops.extensions.package_install_files(
            filepath=str(build_addon.build(Path(folder))), repo="user_default", enable_on_install=True
        )
    importlib.import_module("bl_ext.user_default.diorama")


TABLES = {
    "costs": (costs, "256 px, degree 3 | import, s | Cycles, s | MB | EEVEE, s | MB", [100_000, 1_000_000]),
    "import": (imports, "degree 3 | processor s | s | MB", [3_000_000]),
    "motion": (motion, "degree 3 | import, s | a frame, s | between two, s | MB", [100_000]),
    "view": (view, "512 px, Solid | a frame, s | empty, s", [20_000, 100_000]),
    "farm": (farm, "without the add-on | Cycles | EEVEE", [FEW]),
}


def main(table: str, counts: list[int]) -> None:
    folder = Path(tempfile.mkdtemp())
    print(f"Blender {bpy.app.version_string}", flush=True)
    if table == "exactness":
        install()
        exactness(folder)
        return
    _, head, usual = TABLES[table]
    print(f"\n| {head} |\n|{'---|' * (head.count('|') + 1)}", flush=True)
    for count in counts or usual:
        path = finer(folder, count)
        for representation in SAMPLES:
            print(alone(table, folder, path, representation), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "opened":
        print(opened(Path(sys.argv[2])))
    elif len(sys.argv) > 4:
        install()
        print(TABLES[sys.argv[1]][0](Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
    else:
        main(sys.argv[1], [int(each) for each in sys.argv[2:]])
