"""Rehearses the published models at full size, with random weights: python -m tests.bench.full_size [MODEL …]

Files of the published names, shapes and layouts are written, converted, and generated from by the real
commands; with `--host`, a Python that has bpy, through the add-on to a .blend file. What comes out is noise.
What is measured is how long each stage takes, how near denoising comes to the matrix products of the same
machine, and the peak of memory beside the estimate that the plan was chosen by. A row of the table in
docs/speed.md comes last.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from PIL import Image, ImageDraw

import build_addon
from backend.pipelines import arithmetic, devices
from backend.pipelines.generate import work_for
from backend.pipelines.memory import Work, choose
from backend.pipelines.settings import read_settings
from backend.shared.catalogue import MODELS, Model
from backend.shared.model_store import ROOT_VARIABLE
from backend.shared.request import GenerationRequest
from tests.bench import evaluation_ways
from tests.bench.full_size_files import publish

FULL_SIZE = [name for name, model in MODELS.items() if model.components]
DENOISING = "Generating views", "Denoising the video", "Generating the object"
COLUMNS = "model", "precision", "conversion", "a step", "GFLOP/s, of products", "the rest", "GB, of estimate"
LOOK_EVERY_S = 0.2
GB = 1e9


@dataclass
class Peaks:
    """The most memory that was seen in use, in bytes: of a program, of what it started, of an accelerator."""

    program: int = 0
    started: int = 0  # the backend, if the program is Blender
    accelerator: int = 0
    before: int = 0

    def look(self, process: psutil.Process) -> None:
        """Now, of a process and its children."""
        self.accelerator = max(self.accelerator, _on_accelerator() - self.before)
        try:
            self.program = max(self.program, _own_memory(process))
            children = [_own_memory(each) for each in process.children(recursive=True)]
            self.started = max(self.started, *children) if children else self.started
        except psutil.Error:
            pass


def _own_memory(process: psutil.Process) -> int:
    """Without files that are only mapped, as weights are while they are read; they give way to anything."""
    memory = process.memory_info()
    return memory.rss - getattr(memory, "shared", 0)  # which not every system tells


def _on_accelerator() -> int:
    device = devices.best_device()
    if device.type in ("cpu", "mps"):  # the memory of both is the process's
        return 0
    free, total = torch.accelerator.get_memory_info(device)
    return total - free


def run(command: Sequence[str | Path], environment: dict[str, str]) -> tuple[float, Peaks, str]:
    """Runs a command to its end: the seconds that it took, its peaks, and what it said."""
    began, peaks = time.monotonic(), Peaks(before=_on_accelerator())
    with tempfile.TemporaryFile("w+") as said:
        process = psutil.Popen([*map(str, command)], env=environment, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peaks.look(process)
            time.sleep(LOOK_EVERY_S)
        said.seek(0)
        text = said.read()
    if process.returncode:
        sys.exit(text)
    return time.monotonic() - began, peaks, text


def rehearse(model: Model, work: Path, host: str | None, steps: int, guidance: float | None) -> str:
    """Publishes, converts, generates; prints what it took, and returns the row of the table."""
    files, root, asked = work / "files", work / "models", [f"--model={model.name}", f"--steps={steps}"]
    environment = {**os.environ, ROOT_VARIABLE: str(root)}
    publish(model, files)
    backend = [sys.executable, "-m", "backend"]
    converting, peaks, _ = run([*backend, "models", "convert", model.name, "--from", files], environment)
    print(f"{model.name}: converted in {converting:.0f} s, {peaks.program / GB:.1f} GB at most", flush=True)
    shutil.rmtree(files)

    request = {"model": model.name, "prompt": "a red mushroom"}
    if model.needs_image:
        request = {"model": model.name, "image": str(_draw_object(work))}
        asked.append(f"--image={request['image']}")
    asked += [] if guidance is None else [f"--guidance={guidance:g}"]
    if model.gaussians:
        asked.append(f"--gaussians={model.gaussians[0]}")
    out = work / "out"
    if host:
        prompt = [] if "image" in request else [f"--prompt={request['prompt']}"]
        command = [host, _install_addon(host, work, environment), *asked, *prompt, f"--out={out}"]
        command += [f"--backend-python={sys.executable}"]
    else:
        command = [*backend, "generate", request.get("prompt", ""), *asked, f"--out={out / 'asset'}"]
    os.environ[ROOT_VARIABLE] = str(root)
    gaussians = model.gaussians[0] if model.gaussians else None
    folder, sizes = work_for(GenerationRequest(**request, gaussians=gaussians))
    device = devices.best_device()
    choice = choose(sizes, device, devices.free_bytes(device))
    seconds, peaks, _ = run(command, environment)
    blend = f", to scene.blend; Blender {peaks.program / GB:.1f} GB at most" if host else ""
    print(f"{choice.reason}\n{seconds:.0f} s in all{blend}")
    timings = json.loads((out / "asset/asset.json").read_text("utf-8"))["timings"]
    print("".join(f"  {stage:<32}{took:>9.1f} s\n" for stage, took in timings.items()), end="", flush=True)

    denoising_s = sum(took for stage, took in timings.items() if stage.startswith(DENOISING))
    rounds = read_settings(folder).rounds if isinstance(sizes, Work) else 1
    step_s = denoising_s / steps / rounds
    if isinstance(sizes, Work):
        flop = float(arithmetic.evaluation_flop(folder, sizes))
    else:
        alone = guidance is not None and guidance <= 1
        flop = arithmetic.TRIPOSPLAT_CONDITIONAL_FLOP if alone else arithmetic.TRIPOSPLAT_FLOP
    peak = peaks.accelerator or (peaks.started if host else peaks.program)
    cells = (
        f"`{model.name}`",
        str(choice.plan.dtype).removeprefix("torch."),
        f"{converting:.0f} s",
        f"{step_s:.1f} s",
        f"{flop / step_s / 1e9:.0f} of {arithmetic.matmul_flop_per_s(device, choice.plan.dtype) / 1e9:.0f}",
        f"{seconds - denoising_s:.0f} s",
        f"{peak / GB:.1f} of {sizes.needed_bytes(choice.plan) / GB:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _draw_object(folder: Path) -> Path:
    image = Image.new("RGBA", (1200, 900))
    ImageDraw.Draw(image).ellipse((300, 200, 900, 700), fill=(200, 60, 40, 255))
    image.save(folder / "object.png")
    return folder / "object.png"


def _install_addon(host: str, work: Path, environment: dict[str, str]) -> Path:
    """Installs the add-on for that Python; the program that generates without a window."""
    environment["BLENDER_USER_RESOURCES"] = str(work / "blender")
    zipped = str(build_addon.build(work))
    install = f"bpy.ops.extensions.package_install_files(filepath={zipped!r}, repo='user_default')"
    subprocess.run([host, "-c", f"import bpy; {install}"], env=environment, check=True, capture_output=True)
    return work / "blender/extensions/user_default/diorama/batch.py"


def main() -> None:
    """Rehearses the models that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(FULL_SIZE)}; default: all")
    parser.add_argument("--host", help="a Python that has bpy: to a .blend file, through the add-on")
    parser.add_argument("--steps", type=int, default=2, help="of denoising")
    parser.add_argument("--guidance", type=float, help="1: one evaluation a step, where two are usual")
    parser.add_argument(
        "--device", choices=("cpu", "best"), default="best", help="best: a GPU if there is one"
    )
    parser.add_argument("--ways", action="store_true", help="only time an evaluation in every way of torch")
    parser.add_argument("--compile", action="store_true", help="with --ways: by torch.compile, too")
    args = parser.parse_args()
    if unknown := [name for name in args.models if name not in FULL_SIZE]:
        parser.error(f"there is no {', '.join(unknown)} at full size; choose of: {', '.join(FULL_SIZE)}")
    if args.device == "cpu":
        os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "ZE_AFFINITY_MASK": "-1"}
    device = devices.best_device()
    print(f"{devices.title(device)}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    if args.ways:
        evaluation_ways.table(args.models or FULL_SIZE, device, args.compile)
        return
    rows = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    try:
        for name in args.models or FULL_SIZE:
            with tempfile.TemporaryDirectory(prefix="diorama-full-size-") as folder:
                rows.append(rehearse(MODELS[name], Path(folder), args.host, args.steps, args.guidance))
    finally:  # a model that fails, or an end by Ctrl+C, loses no row
        print("", *rows, sep="\n")


if __name__ == "__main__":
    main()
