"""How fast splats are drawn and learnt from here, next to the reference: python -m tests.bench.rasterization.

Everything is measured interleaved in one run, one contender after the other, so that a busy machine is
unfair to all alike; medians are reported. CPU time is what to compare on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # before torch: its idle threads would take our second core
import torch
from torch import Tensor

from backend.cameras import intrinsics, opencv_from_world, orbit
from backend.gaussians import fitting
from kernels import rasterization
from kernels.dispatch import _gsplat_is_compiled
from kernels.numba import engine, raster
from kernels.stages import Camera
from tests.bench.raster_bound import PER_BLOCK, PER_ENTRY, count_work, million_vector_operations
from tests.gaussians.painted_blob import FOV_DEG, painted_blob, painted_images
from tests.kernels.splat_scenes import as_leaves, cameras, shell

TARGETS = {
    "forward, times the reference": ("≥", 20.0),
    "forward + backward, times the reference": ("≥", 25.0),
    "backward / forward": ("≤", 2.2),
    "rasteriser / arithmetic bound": ("≤", 2.0),
    "two threads, times one": ("≥", 1.7),
}


@dataclass(frozen=True)
class Scene:
    name: str
    inputs: dict[str, Tensor]  # arguments of `rasterization`
    size_px: int


def shells() -> list[Scene]:
    """The four made-up scenes that the kernels were designed with."""
    return [
        Scene(f"shell {count // 1000}k {size}²", shell(count) | cameras(1, size, size), size)
        for count, size in ((20_000, 256), (100_000, 256), (20_000, 512), (100_000, 512))
    ]


def optimised(count: int = 20_000, size: int = 256) -> Scene:
    """A cloud as optimisation leaves it: fitted to 8 images of an object, from its silhouettes."""
    truth, views = painted_blob(40_000), orbit(8, 15.0, 2.0)
    images = painted_images(truth, views, size, "linear")
    start = fitting.cloud_in_silhouettes(images, views, FOV_DEG, count)
    cloud = fitting.fit(start, images, views, FOV_DEG, 240)
    inputs = {
        "means": torch.from_numpy(cloud.means),
        "quats": torch.from_numpy(cloud.quats),
        "scales": torch.from_numpy(cloud.scales),
        "opacities": torch.from_numpy(cloud.opacities),
        "colors": (0.5 + 0.28209479 * torch.from_numpy(cloud.sh[:, 0])).clamp_min(0),
        "viewmats": opencv_from_world(views[:1]),
        "Ks": intrinsics(FOV_DEG, size, size)[None],
    }
    return Scene(f"fitted {count // 1000}k {size}²", inputs, size)


def contenders(scene: Scene, backend: str, device: str = "cpu") -> dict[str, Callable[[], None]]:
    """Forward (without a graph) and forward + backward of one backend; RGB, depth and alpha."""
    leaves = as_leaves({name: tensor.to(device) for name, tensor in scene.inputs.items()})
    size = {"width": scene.size_px, "height": scene.size_px}

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def forward() -> None:
        with torch.no_grad():
            rasterization(**leaves, **size, render_mode="RGB+D", backend=backend)
        wait()

    def both() -> None:
        image, alphas, _ = rasterization(**leaves, **size, render_mode="RGB+D", backend=backend)
        (image.sum() + alphas.sum()).backward()
        wait()

    return {f"{backend} forward": forward, f"{backend} forward + backward": both}


def measure(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of wall and CPU time of every run, interleaved."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        run()  # compiles, warms
    for _ in range(repeats):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: {
            "wall_ms": round(1e3 * statistics.median(wall for wall, _ in taken), 3),
            "cpu_ms": round(1e3 * statistics.median(cpu for _, cpu in taken), 3),
        }
        for name, taken in times.items()
    }


def raster_stage(scene: Scene, repeats: int) -> dict[str, float]:
    """The pixel loop alone, on one thread, against the bound worked out in `raster_bound`."""
    inputs = {name: tensor[None] for name, tensor in scene.inputs.items()}
    colors, opacities = inputs.pop("colors"), inputs["opacities"]
    camera = Camera(scene.size_px, scene.size_px)
    stage = engine.project(**inputs, camera=camera)
    ellipses = (stage.means2d, stage.conics, stage.depths, opacities, stage.radii)
    lists = engine._intersect(camera, *(tensor.numpy() for tensor in ellipses))
    palette = torch.cat([colors, stage.depths[..., None]], -1).numpy()
    work = engine._scene(lists, palette, camera, 0.99)
    image = np.empty((1, camera.height, camera.width, 4), np.float32)
    alphas = np.empty((1, camera.height, camera.width), np.float32)

    def pixels() -> None:
        raster.rasterize(np.zeros(1, np.int64), *work, image, alphas)

    times = measure({"raster": pixels, "operations": million_vector_operations}, repeats)
    entries, blocks = count_work(*work)
    operation_ms = times["operations"]["cpu_ms"] / 1e6
    bound_ms = operation_ms * (entries * PER_ENTRY + blocks * (PER_BLOCK + 4))
    raster_ms = times["raster"]["cpu_ms"]
    return {
        "entries": entries,
        "blocks": blocks,
        "vector_operation_ns": round(1e6 * operation_ms, 4),
        "bound_ms": round(bound_ms, 3),
        "raster_cpu_ms": raster_ms,
        "ratio": round(raster_ms / bound_ms, 2),
    }


def two_threads(scene: Scene, repeats: int) -> dict[str, float]:
    """Wall time of the kernels on one thread over that on two; means nothing when the second core is taken.

    One after the other, not interleaved: a core that has slept takes longer to wake than an image takes to
    draw. And without torch's own operations around them, which would be measured instead.
    """
    leaves = as_leaves({name: tensor[None] for name, tensor in scene.inputs.items()})
    Ks = leaves.pop("Ks")
    solid = {name: leaf for name, leaf in leaves.items() if name != "colors"}
    camera = Camera(scene.size_px, scene.size_px)
    pixels = torch.ones(1, scene.size_px, scene.size_px, 3)

    def forward() -> tuple[Tensor, Tensor]:
        stage = engine.project(**solid, Ks=Ks, camera=camera)
        return engine.rasterize(stage, leaves["colors"], leaves["opacities"], camera, 0.99)[:2]

    def both() -> None:
        torch.autograd.grad(forward(), list(leaves.values()), (pixels, pixels[..., 0]), allow_unused=True)

    times: dict[int, dict[str, dict[str, float]]] = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        times[threads] = measure({"forward": forward}, repeats) | measure(
            {"forward + backward": both}, repeats
        )
    torch.set_num_threads(1)
    return {name: round(times[1][name]["wall_ms"] / times[2][name]["wall_ms"], 2) for name in times[1]}


_FIRST_FRAME = """
import time, torch
torch.set_num_threads(1)
from kernels import rasterization
from tests.kernels.splat_scenes import as_leaves, cameras, shell
leaves = as_leaves(shell(1000) | cameras(1, 64, 64))
start = time.perf_counter()
image, alphas, _ = rasterization(**leaves, width=64, height=64)
first = time.perf_counter()
image.sum().backward()
print(first - start, time.perf_counter() - first)
"""


def first_frame() -> dict[str, float]:
    """Seconds of the first forward and backward of a process, with an empty and with a filled cache."""
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for state in ("cold", "warm"):
            environment = os.environ | {"NUMBA_CACHE_DIR": folder}
            command = [sys.executable, "-c", _FIRST_FRAME]
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            forward, backward = map(float, done.stdout.split())
            result |= {f"{state}_forward_s": round(forward, 2), f"{state}_backward_s": round(backward, 2)}
    return result


def on_the_card(repeats: int) -> dict[str, Any]:
    """A million splats at 1080p on the graphics card: ours, and gsplat where it is compiled."""
    size = {"width": 1920, "height": 1080}
    scene = Scene("shell 1M 1080p", shell(1_000_000) | cameras(1, **size), 0)
    leaves = as_leaves({name: tensor.cuda() for name, tensor in scene.inputs.items()})
    runs: dict[str, Callable[[], None]] = {}
    for backend in ["warp", *(["gsplat"] if _gsplat_is_compiled() else [])]:

        def forward(backend: str = backend) -> None:
            with torch.no_grad():
                rasterization(**leaves, **size, backend=backend)
            torch.cuda.synchronize()

        def both(backend: str = backend) -> None:
            image, alphas, _ = rasterization(**leaves, **size, backend=backend)
            (image.sum() + alphas.sum()).backward()
            torch.cuda.synchronize()

        runs |= {f"{backend} forward": forward, f"{backend} forward + backward": both}
    return {"scene": scene.name, "device": torch.cuda.get_device_name(), "times": measure(runs, repeats)}


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def run(repeats: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    before = machine()
    rows = []
    for scene in [*shells(), optimised()]:
        times = measure(contenders(scene, "numba") | contenders(scene, "torch"), repeats)
        forward, both = times["numba forward"], times["numba forward + backward"]
        row = {
            "scene": scene.name,
            "times": times,
            "ratios": {
                "forward, times the reference": times["torch forward"]["cpu_ms"] / forward["cpu_ms"],
                "forward + backward, times the reference": times["torch forward + backward"]["cpu_ms"]
                / both["cpu_ms"],
                "backward / forward": both["cpu_ms"] / forward["cpu_ms"] - 1,
            },
            "raster": raster_stage(scene, repeats),
            "two_threads": two_threads(scene, repeats),
        }
        row["ratios"]["rasteriser / arithmetic bound"] = row["raster"]["ratio"]
        row["ratios"]["two threads, times one"] = row["two_threads"]["forward + backward"]
        row["ratios"] = {name: round(value, 2) for name, value in row["ratios"].items()}
        print_row(row)
        rows.append(row)
    result = {"machine": before, "load_after": machine()["load"], "repeats": repeats, "rows": rows}
    result["first_frame"] = first_frame()
    if torch.cuda.is_available():
        result["cuda"] = on_the_card(repeats)
    return result


def print_row(row: dict[str, Any]) -> None:
    print(f"\n{row['scene']}", flush=True)
    for name, taken in row["times"].items():
        print(f"  {name:28} {taken['cpu_ms']:10.1f} ms CPU {taken['wall_ms']:10.1f} ms wall")
    for name, value in row["ratios"].items():
        sign, target = TARGETS[name]
        met = value >= target if sign == "≥" else value <= target
        print(f"  {name:42} {value:8.2f}   target {sign} {target:g} {'✓' if met else '✗'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    result = run(options.repeats)
    ratios = [row["ratios"] for row in result["rows"]]
    print("\ngeometric means")
    for name in TARGETS:
        print(f"  {name:42} {math.prod(ratio[name] for ratio in ratios) ** (1 / len(ratios)):8.2f}")
    print("first frame", result["first_frame"])
    if "cuda" in result:
        print("cuda", json.dumps(result["cuda"], indent=2))
    print("machine", result["machine"], "load after", result["load_after"])
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
