"""Generates without a window: one prompt, or a file of many, to .blend files with previews.

    blender -b --python batch.py -- --prompt "a red mushroom" --seed 7 --out DIR
    blender -b scene.blend --python batch.py -- --jobs jobs.jsonl --out DIR
    blender -b scene.blend --python batch.py -- --camera --model videomv-i2v --out DIR
    blender -c diorama --prompt "a red mushroom" --seed 7 --out DIR
    python batch.py --prompt "a red mushroom" --seed 7 --out DIR

(The last with a Python that has bpy.) With --jobs, each line is a JSON object of settings, for example
{"prompt": "a red mushroom", "seed": 7}; every job gets a folder of its own in DIR, and one that is already
complete is skipped. A .blend file that Blender has open is the scene that each result is imported into.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from . import capture, host, scene
from .backend.shared import asset
from .backend.shared.progress import Progress, TerminalBar
from .backend.shared.protocol import DioramaError, explained
from .backend.shared.request import GenerationRequest
from .client import jobs
from .client.jobs import Job

PREVIEW_PX = 400
PREVIEW_SAMPLES = 4  # splats are free of noise: samples only smooth the pixel grid
PREVIEW_AZIMUTH_DEG = 35.0  # three quarters: from the front, depth and much motion cannot be seen
MOMENTS = 3  # of a motion, side by side
# Behind the splats in the preview: near the white of the sheet, from which white objects stand out.
GREY = 0.85


def main(argv: list[str]) -> int:
    """Runs all jobs and returns the exit code, that of the first failure if there was one."""
    parser = argparse.ArgumentParser(
        prog="batch.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prompt")
    source.add_argument("--image", type=Path, help="a picture of the object, for models told by one")
    source.add_argument(
        "--camera",
        nargs="?",
        const="",
        metavar="NAME",
        help="what this camera of the open .blend file sees; without a name, the active camera",
    )
    source.add_argument("--jobs", type=Path, help="a file with one JSON object of settings a line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--steps", type=int, help="denoising steps; default: the model's own")
    parser.add_argument("--views", type=int, help="how many views; default: the model's own")
    parser.add_argument("--frames", type=int, help="make it move, in so many frames of a loop")
    parser.add_argument(
        "--elevation", type=float, help="of the cameras, in degrees; default: the model's own"
    )
    parser.add_argument("--radius", type=float, help="of their orbit, in metres; default: the model's own")
    parser.add_argument("--method", default="reconstruct", help="or distill: of the model itself, slowly")
    parser.add_argument("--mesh", action="store_true", help="make a textured mesh besides the splats")
    parser.add_argument("--fast", action="store_true", help="nearly the same, in less time")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backend-python", type=Path, help="default: as in the add-on's preferences")
    args = parser.parse_args(argv)

    if args.backend_python:
        # absolute, not resolved: the link in an environment's bin/ is what makes it that environment
        host.get().python = str(args.backend_python.absolute())
    opened = bpy.data.filepath
    out = args.out.resolve()
    code = 0
    try:
        wanted = _requests(args, out)
        if args.camera is not None:
            camera = capture.active_camera(bpy.context.scene, args.camera)
            for warning in capture.differences(bpy.context.scene):
                print(f"warning: {warning}", file=sys.stderr)
            capture.picture(bpy.context, camera, Path(str(wanted[0].image)))
        for number, request in enumerate(wanted, 1):
            folder = out
            if args.jobs:
                folder = jobs.named_directory(out, request)
                print(f"\n[{number}/{len(wanted)}] {request.prompt or request.image} · seed {request.seed}")
                if _complete(folder, request):
                    print("already complete")
                    continue
            try:
                _generate(request, folder, opened)
            except Exception as unexpected:  # the border: the next job runs, and the exit code tells
                failure = explained(unexpected)
                code = code or failure.exit_code
                _tell(failure)
    except DioramaError as failure:
        code = failure.exit_code
        _tell(failure)
    finally:
        host.get().close()
    return code


def _requests(args: argparse.Namespace, out: Path) -> list[GenerationRequest]:
    """What to generate, all of it checked before the first begins; a camera's picture will be in `out`.

    Raises:
        DioramaError: E_REQUEST and the like, naming the line.
    """
    if not args.jobs:
        image = args.image.resolve() if args.image else None
        if args.camera is not None:
            if not bpy.data.filepath:
                raise DioramaError(
                    "E_REQUEST",
                    "no .blend file is open that could have a camera",
                    hint="blender -b scene.blend --python …/batch.py -- --camera …",
                )
            image = out / capture.picture_name(capture.active_camera(bpy.context.scene, args.camera))
        return [
            GenerationRequest(
                args.prompt or "",
                args.model,
                args.seed,
                views=args.views,
                frames=args.frames,
                steps=args.steps,
                mesh=args.mesh,
                image=str(image) if image else None,
                elevation_deg=args.elevation,
                radius=args.radius,
                method=args.method,
                fast=args.fast,
            )
        ]
    try:
        lines = args.jobs.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DioramaError("E_REQUEST", f"cannot read {args.jobs}: {error}") from error
    wanted = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                request = GenerationRequest.from_dict(json.loads(line))
                if request.image is not None:  # beside the file that names it: the backend works elsewhere
                    image = args.jobs.resolve().parent / request.image
                    request = dataclasses.replace(request, image=str(image))
                wanted.append(request)
            except ValueError as error:
                raise DioramaError("E_REQUEST", f"{args.jobs}:{number}: {error}") from error
            except DioramaError as error:
                where = f"{args.jobs}:{number}: {error.message}"
                raise DioramaError(error.code, where, error.hint) from error
    return wanted


def _complete(folder: Path, request: GenerationRequest) -> bool:
    """Whether this very request has been carried out in this folder, to the last file."""
    try:
        made = asset.read_asset(folder / "asset").request
    except DioramaError:
        return False
    return bool(made == request.to_dict()) and (folder / "preview.png").is_file()  # written last


def _generate(request: GenerationRequest, folder: Path, opened: str) -> None:
    """One request to `folder/{asset/, scene.blend, preview.png}`, and a table of what it took."""
    began = time.monotonic()
    bar = TerminalBar()
    job = host.get().run(request, folder / "asset", bar)
    (folder / "preview.png").unlink(missing_ok=True)  # until it is there again, the folder is not complete
    progress = Progress(bar)
    progress.stage("Importing into Blender")
    if opened:
        bpy.ops.wm.open_mainfile(filepath=opened)
    else:
        bpy.ops.wm.read_homefile(use_empty=True)
    # A scene of ours is made ready to render; one that was opened keeps its camera, colours and frames.
    collection = scene.import_asset(bpy.context, Path(job.directory), frame_range=not opened)
    camera = scene.orbit_camera(collection)
    if not opened:
        scene.prepare_render(bpy.context.scene, camera)
    progress.stage("Saving the scene")
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "scene.blend"), copy=bool(opened))
    progress.stage("Rendering the preview")
    _preview(collection, Path(job.directory) / "preview.png", folder / "preview.png")
    progress.finish()
    bar.finish()
    _table(job, progress.stages, time.monotonic() - began)
    print(f"Saved: '{folder / 'scene.blend'}'")


def _preview(collection: bpy.types.Collection, sheet: Path, path: Path) -> None:
    """Renders the splats with Cycles, and puts the contact sheet of the generated views beside them.

    They are seen from three quarters, from as high as the views; what moves, at some moments of its motion.
    """
    current = bpy.context.scene
    front = scene.view_cameras(collection)[0]
    camera = front.copy()
    collection.objects.link(camera)
    camera.matrix_world = Matrix.Rotation(math.radians(PREVIEW_AZIMUTH_DEG), 4, "Z") @ front.matrix_world
    scene.prepare_render(current, camera)
    current.render.engine = "CYCLES"
    current.cycles.device = "CPU"
    current.cycles.samples = PREVIEW_SAMPLES
    current.cycles.use_denoising = False
    rendered = path.with_name(".render.png")
    capture.set_output(current, rendered, PREVIEW_PX, PREVIEW_PX)
    current.timeline_markers.clear()  # cameras bound to them would come back
    moments = []
    try:
        for frame in _moments(collection):
            current.frame_set(frame)
            bpy.ops.render.render(write_still=True)
            moments.append(_pixels(rendered))
    finally:
        rendered.unlink(missing_ok=True)
    right = _pixels(sheet)
    rows = np.arange(PREVIEW_PX) * right.shape[0] // PREVIEW_PX
    columns = np.arange(PREVIEW_PX * right.shape[1] // right.shape[0]) * right.shape[0] // PREVIEW_PX
    pixels = np.concatenate([*moments, right[rows][:, columns]], axis=1)
    alpha = pixels[..., 3:]
    pixels[..., :3] = pixels[..., :3] * alpha + GREY * (1 - alpha)
    pixels[..., 3] = 1
    image = bpy.data.images.new("preview", pixels.shape[1], pixels.shape[0])
    image.pixels.foreach_set(pixels.ravel())
    image.filepath_raw, image.file_format = str(path), "PNG"
    image.save()
    bpy.data.images.remove(image)


def _moments(collection: bpy.types.Collection) -> list[int]:
    """Frames of the scene, evenly spread over the motion; the current one if nothing moves."""
    current = bpy.context.scene
    count = max(len(scene.frame_objects(body)) for body in scene.splat_objects(collection))
    if not count:
        return [current.frame_current]
    return [current.frame_start + i * count // MOMENTS for i in range(MOMENTS)]


def _pixels(path: Path) -> np.ndarray:  # [H, W, 4] as stored: sRGB, straight alpha, bottom row first
    image = bpy.data.images.load(str(path))
    pixels = np.empty(len(image.pixels), np.float32)
    image.pixels.foreach_get(pixels)
    width, height = image.size
    bpy.data.images.remove(image)
    return pixels.reshape(height, width, 4)


def _table(job: Job, host_stages: list[dict[str, Any]], total_s: float) -> None:
    print(f"\n{'stage':<30}{'seconds':>9}{'peak memory':>16}")
    for process, stages in (("backend", job.stages), ("Blender", host_stages)):
        for stage in stages:
            peak = "" if stage["peak_mib"] is None else f"{stage['peak_mib']} MiB"
            print(f"{stage['stage']:<30}{stage['seconds']:>9.1f}{peak:>16}  {process}")
    print(f"{'total':<30}{total_s:>9.1f}\n")


def _tell(failure: DioramaError) -> None:
    print(f"{failure.code}: {failure.message}\n{failure.hint}\n{failure.detail}".rstrip(), file=sys.stderr)


_commands: list[object] = []  # Blender's handle of `blender -c diorama`


def register() -> None:
    """Adds `blender -c diorama`."""
    _commands.append(bpy.utils.register_cli_command("diorama", main))


def unregister() -> None:
    """Takes it away."""
    bpy.utils.unregister_cli_command(_commands.pop())
