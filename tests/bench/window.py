"""Times what an artist waits for in a Blender with a window: splats in the 3D view, and the timer's gaps.

    python build_addon.py
    blender --python tests/bench/window.py -- [--generate PYTHON]

First, splats are drawn at 1280×720 in ever greater numbers; bringing them to the GPU, sorting them for a new
view (beside the main thread, in the add-on) and drawing them are timed apart. With `--generate`, the starter
then generates twice in Solid with this Python as the backend, and the gaps between the ticks of a 10 ms timer
are taken at rest and during the second generation. Prints one line of JSON a figure, and ends Blender.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

ZIP = Path(__file__).parents[2] / "dist" / "diorama.zip"
COUNTS = (10_000, 200_000, 1_000_000)
SIZE = (1280, 720)
REPEATS = 5
TICK_S = 0.01


def steps() -> Iterator[float]:
    """All measurements; yields how many seconds Blender may go on before the next step."""
    bpy.ops.extensions.package_install_files(filepath=str(ZIP), repo="user_default", enable_on_install=True)
    addon = importlib.import_module("bl_ext.user_default.diorama")
    for count in COUNTS:
        tell(drawing(addon, count))
        yield 0.1
    if "--generate" in sys.argv:
        python = sys.argv[sys.argv.index("--generate") + 1]
        bpy.context.preferences.addons[addon.__name__].preferences.backend_python = python
        yield from generating(addon)


def drawing(addon: Any, count: int) -> dict[str, Any]:
    """Milliseconds for each part of showing so many splats of a ball that fills the view."""
    painting = importlib.import_module(f"{addon.__name__}.scene.viewport_painter")
    cloud = ball(importlib.import_module(f"{addon.__name__}.backend.shared.ply").GaussianCloud, count)
    painter = painting.Painter()
    splats, to_gpu = timed(lambda: painting.splats_from(cloud, painting.Look()))
    view = Matrix.Translation((0, 0, -3))
    near, far, focal = 0.1, 100.0, 2.5
    projection = Matrix.Diagonal((focal * SIZE[1] / SIZE[0], focal, -(far + near) / (far - near), 0.0))
    projection[2][3], projection[3][2] = -2 * far * near / (far - near), -1.0
    thing = painting.Thing(splats, Matrix(), (0,))

    def draw() -> None:
        target = painter.paint([thing], view, projection, SIZE, linear=True)
        with target.bind():
            target.read_color(0, 0, 1, 1, 4, 0, "FLOAT")  # waits until it is drawn

    towards, camera = np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, 3.0])
    (indices, colours), sorting = timed(lambda: painting._sorted(splats, towards, camera))
    _, order_to_gpu = timed(lambda: painting._received(splats, towards, indices, colours))
    draw()  # compiles the shaders, and sorts
    drawn = min(timed(draw)[1] for _ in range(REPEATS))
    painter.close()
    return {
        "splats": count,
        "shapes to the GPU, ms": to_gpu,
        "sorting and colours, ms": sorting,
        "order to the GPU, ms": order_to_gpu,
        "drawing, ms": drawn,
        "frames per second": round(1000 / drawn, 1),
    }


def generating(addon: Any) -> Iterator[float]:
    """The gaps of a timer at rest, and while the starter generates for the second time."""
    host, settings = addon.host.get(), bpy.context.scene.diorama
    area = next(each for each in bpy.context.window_manager.windows[0].screen.areas if each.type == "VIEW_3D")
    area.spaces.active.show_region_ui = True
    settings.prompt = "a red mushroom"
    gaps: list[float] = []
    bpy.app.timers.register(ticker(gaps))
    for seed in (0, 1):
        settings.seed = seed
        gaps.clear()
        bpy.ops.diorama.generate("INVOKE_DEFAULT")
        yield 0.5
        while host.session.busy:
            yield 0.5
        assert host.session.jobs[-1].state == "done", host.session.jobs[-1].error
    tell({"gaps": "generating in Solid", **summary(gaps)})
    yield 2.0
    gaps.clear()
    yield 10.0
    tell({"gaps": "at rest", **summary(gaps)})


def ticker(gaps: list[float]) -> Callable[[], float]:
    """A timer that writes down how long after the last tick it is called, in milliseconds."""
    last = time.perf_counter()

    def tick() -> float:
        nonlocal last
        now = time.perf_counter()
        gaps.append((now - last) * 1000)
        last = now
        return TICK_S

    return tick


def summary(gaps: list[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum."""
    values = np.array(gaps[1:])
    named = {"median, ms": np.median(values), "99 %, ms": np.percentile(values, 99), "most, ms": values.max()}
    return {"ticks": len(values), **{name: round(float(value), 1) for name, value in named.items()}}


def ball(cloud_type: Any, count: int) -> Any:
    """Splats on a ball of radius 1, as large as those that cover it ten times."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(count, 3))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    quats = rng.normal(size=(count, 4))
    return cloud_type(
        means=means.astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        scales=np.full((count, 3), (10 / count) ** 0.5, np.float32),
        opacities=rng.uniform(0.1, 1, count).astype(np.float32),
        sh=rng.uniform(-1.5, 1.7, (count, 1, 3)).astype(np.float32),
    )


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and its milliseconds."""
    begun = time.perf_counter()
    result = work()
    return result, round((time.perf_counter() - begun) * 1000, 1)


def tell(figures: dict[str, Any]) -> None:
    print(json.dumps(figures), flush=True)


def main() -> None:
    run = steps()

    def step() -> float:
        try:
            return next(run)
        except StopIteration:
            os._exit(0)  # Blender's own way to end asks about unsaved files
        except Exception:
            traceback.print_exc()
            os._exit(1)

    bpy.app.timers.register(step, first_interval=1.0)


if __name__ == "__main__":
    main()
