"""Generates without a window: one prompt, or a file of many, to .blend files with previews.

    blender -b --python batch.py -- --prompt "a red mushroom" --seed 7 --out DIR
    blender -b scene.blend --python batch.py -- --jobs jobs.jsonl --out DIR
    blender -b scene.blend --python batch.py -- --camera --out DIR
    blender -c diorama --prompt "a red mushroom" --seed 7 --out DIR
    python batch.py --prompt "a red mushroom" --seed 7 --out DIR
    python batch.py --blend scene.blend --camera --out DIR

(The last two with a Python that has bpy.) With --jobs, each line is a JSON object of settings, for example
{"prompt": "a red mushroom", "seed": 7}; every job gets a folder of its own in DIR, called after it or by its
"name". What is already complete is skipped, and several processes on one DIR share the jobs. A .blend file
that Blender has open is the scene that each result is imported into.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from . import capture, host, scene
from .backend.shared import asset, output_folder
from .backend.shared.claims import claimed
from .backend.shared.job_file import (
    RECORDS,
    BatchJob,
    BrokenLine,
    is_complete,
    read_job_file,
)
from .backend.shared.progress import Progress, TerminalBar, forgive_encodings
from .backend.shared.protocol import BROKEN_PIPE, DioramaError, explained
from .backend.shared.request import (
    SIDES,
    GenerationRequest,
    add_arguments,
    add_line_arguments,
    given_settings,
)
from .client import jobs
from .client.jobs import Job
from .dataset.render_files import check_png

PREVIEW_PX = 400
PREVIEW_SAMPLES = 1  # splats are soft and free of noise: 55 dB from 4 samples, in a fifth of the time
PREVIEW_AZIMUTH_DEG = 35.0  # three quarters: from the front, depth and much motion cannot be seen
LOOK_AGAIN_S = 2.0  # for jobs that another process holds
MOMENTS = 3  # of a motion, side by side
# Of a job's folder, beside the asset.
LAYOUT = output_folder.Layout(
    "batch.json",
    frozenset({"batch.json", "asset", "scene.blend", "preview.png", asset.SOURCE}),
    folders=frozenset({"asset"}),
)
# Behind the splats in the preview: near the white of the sheet, from which white objects stand out.
GREY = 0.85


def main(argv: list[str]) -> int:
    """Runs all jobs and returns the exit code, that of the first failure if there was one."""
    args = _arguments(argv)

    if args.backend_python:
        # absolute, not resolved: the link in an environment's bin/ is what makes it that environment
        host.get().python = str(args.backend_python.absolute())
    forgive_encodings()
    out = args.out.resolve()
    code = 0
    try:
        if args.blend:
            _open(args.blend)
        opened = bpy.data.filepath
        wanted = _requests(args, out)
        place = _capture(args.camera, out) if args.camera is not None else {}
        waiting = deque(wanted)
        while waiting:
            job = waiting.popleft()
            try:
                if not _run(job, out, opened, place):
                    waiting.append(job)  # another process is at it: see later whether it is done
                    time.sleep(LOOK_AGAIN_S / len(waiting))
            except BrokenPipeError:
                raise
            except Exception as unexpected:  # the border: the next job runs, and the exit code tells
                failure = explained(unexpected)
                if failure.code == "E_CANCELLED":  # by Ctrl-C: that is meant for all of them
                    raise failure from unexpected
                code = code or failure.exit_code
                _tell(failure)
    except KeyboardInterrupt:
        failure = DioramaError("E_CANCELLED", "cancelled")
        code = failure.exit_code
        _tell(failure)
    except BrokenPipeError:  # as `| head` does: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    except DioramaError as failure:
        code = failure.exit_code
        _tell(failure)
    finally:
        host.get().close()
    return code


def _open(path: Path) -> None:
    """Opens a .blend file.

    Raises:
        DioramaError: E_REQUEST if it is none.
    """
    try:
        bpy.ops.wm.open_mainfile(filepath=str(path.resolve()))
    except RuntimeError as error:  # the operator's report
        raise DioramaError(
            "E_REQUEST",
            f"{path} cannot be opened: {str(error).strip()}",
            hint="Give --blend a .blend file of this Blender or an older one.",
        ) from error


def _capture(name: str, out: Path) -> dict[str, Any]:
    """Renders what a camera sees; returns where that stands, as the arguments of an import.

    Raises:
        DioramaError: E_REQUEST, E_OUTPUT_UNWRITABLE or E_IMAGE.
    """
    _claim(out)
    camera = capture.active_camera(bpy.context.scene, name)
    for warning in capture.differences(bpy.context.scene):
        print(f"warning: {warning}", file=sys.stderr)
    seen = capture.seen(bpy.context, camera, only_selected=False)
    capture.picture(bpy.context, camera, out / asset.SOURCE / capture.picture_name(camera))
    return dataclasses.asdict(seen) if seen else {}


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="batch.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompt", default=argparse.SUPPRESS, help="what to make, or what the image shows")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--image", default=argparse.SUPPRESS, help="an image file of the object, for image-conditioned models"
    )
    source.add_argument(
        "--camera",
        nargs="?",
        const="",
        metavar="NAME",
        help="what this camera of the open .blend file sees; without a name, the active camera",
    )
    source.add_argument("--jobs", type=Path, help="a file with one JSON object of settings a line")
    parser.add_argument("--blend", type=Path, help="a .blend file to open first, where none is open yet")
    add_line_arguments(parser)
    add_arguments(parser, without={"prompt", "image"})
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backend-python", type=Path, help="default: as in the add-on's preferences")
    args = parser.parse_args(argv)
    if args.jobs and "prompt" in args:
        parser.error("argument --prompt: not allowed with argument --jobs")
    if not args.jobs and args.camera is None and not {"prompt", "image"} & set(vars(args)):
        parser.error("one of the arguments --prompt --image --camera --jobs is required")
    return args


def _requests(args: argparse.Namespace, out: Path) -> list[BatchJob | BrokenLine]:
    """The lines of the job file, or the one job without a name that the command line asks for.

    A camera's image will be in `out`.

    Raises:
        DioramaError: E_REQUEST and the like.
    """
    settings = given_settings(args)
    if args.jobs:
        part = {name: value for name, value in vars(args).items() if name in ("first", "last")}
        found, broken = read_job_file(args.jobs, settings, **part)
        return sorted([*found, *broken], key=lambda line: line.line)
    if args.camera is not None:
        if not bpy.data.filepath:
            raise DioramaError(
                "E_REQUEST",
                "no .blend file is open that could have a camera",
                hint="Give it one: --blend scene.blend --camera …",
            )
        camera = capture.active_camera(bpy.context.scene, args.camera)
        settings["image"] = str(out / asset.SOURCE / capture.picture_name(camera))
    for name in SIDES:
        if name in settings:
            settings[name] = str(Path(settings[name]).resolve())
    return [BatchJob("", GenerationRequest(**settings), 1)]


def _run(job: BatchJob | BrokenLine, out: Path, opened: str, place: dict[str, Any]) -> bool:
    """Does what is left to do of a job; False if another process is at it.

    Args:
        place: where the result is to stand, as the arguments of an import.

    Raises:
        DioramaError: that of a broken line, or of the job.
    """
    if isinstance(job, BrokenLine):
        raise job.error
    if not job.name:
        _generate(job.request, out, opened, place)
        return True
    folder = out / job.name
    with claimed(out / RECORDS, job.name) as ours:
        if ours:
            print(f"\n{job.name}: {job.prompt} · seed {job.request.seed}")
            made = is_complete(folder / "asset", job.request)
            if made and output_folder.is_finished(folder, LAYOUT):
                print("already complete")
            else:
                _generate(job.request, folder, opened, place, made)
    return ours


def _generate(
    request: GenerationRequest, folder: Path, opened: str, place: dict[str, Any], made: bool = False
) -> None:
    """One request to `folder/{asset/, scene.blend, preview.png}`, and a table of what it took.

    Args:
        made: the asset is there already.
    """
    began = time.monotonic()
    bar = TerminalBar()
    is_new = not folder.exists()
    try:
        job = _made(request, folder, bar, made)
    except BaseException:
        if is_new:
            output_folder.clear(folder)
        raise
    progress = Progress(bar)
    progress.stage("Importing into Blender")
    if opened:
        bpy.ops.wm.open_mainfile(filepath=opened)
    else:
        bpy.ops.wm.read_homefile(use_empty=True)
    # A scene of ours is made ready to render; one that was opened keeps its camera, colours and frames.
    collection = scene.import_asset(bpy.context, Path(job.directory), **place, frame_range=not opened)
    camera = scene.orbit_camera(collection)
    if not opened:
        scene.prepare_render(bpy.context.scene, camera)
    with output_folder.partial_folder(folder) as staging:
        progress.stage("Saving the scene")
        _save(folder, staging / "scene.blend")
        progress.stage("Rendering the preview")
        _preview(collection, Path(job.directory) / "preview.png", staging / "preview.png")
        files = output_folder.listed(staging, ("scene.blend", "preview.png"))
        files |= output_folder.listed(folder, asset.own_picture(folder, request.to_dict()))
        manifest = {"schema": 1, "request": request.to_dict(), "files": files}
        output_folder.finish(folder, LAYOUT, manifest, staging)
    progress.finish()
    bar.finish()
    _table(job, progress.stages, time.monotonic() - began)
    print(f"Saved: '{folder / 'scene.blend'}'")


def _made(request: GenerationRequest, folder: Path, bar: TerminalBar, made: bool) -> Job:
    _claim(folder, request)
    if made:
        return jobs.new_job(request, folder / "asset")
    return host.get().run(request, folder / "asset", bar)


def _claim(folder: Path, request: GenerationRequest | None = None) -> None:
    """Makes a job's folder ready.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE if it holds something else, or E_DISK_FULL.
    """
    try:
        picture = asset.own_picture(folder, request.to_dict() if request else {})
        output_folder.claim(folder, LAYOUT, picture.values())
    except OSError as error:
        raise output_folder.unwritable(folder, error) from error


def _save(folder: Path, path: Path) -> None:
    """Saves the scene for a place in `folder`, as a file that is whole or not there."""
    aside = output_folder.partial_blend(folder)
    try:
        bpy.ops.wm.save_as_mainfile(filepath=str(aside), copy=True)
        os.replace(aside, path)
    except RuntimeError as error:  # the operator's report
        raise output_folder.not_saved(folder / path.name, str(error)) from error
    finally:
        aside.unlink(missing_ok=True)


def _preview(collection: bpy.types.Collection, sheet: Path, path: Path) -> None:
    """Renders the splats with Cycles, and puts the contact sheet of the generated views beside them.

    They are seen alone, from three quarters, from as high as the views; what moves, at some moments of it.
    """
    current = bpy.context.scene
    others = {*current.objects} - {*collection.all_objects}
    shown = [item for item in others if not item.hide_render]
    front = scene.view_cameras(collection)[0]
    camera = front.copy()  # under the same root, where the views stand around the object
    collection.objects.link(camera)
    turn = Matrix.Rotation(math.radians(PREVIEW_AZIMUTH_DEG), 4, "Z")
    camera.matrix_basis = turn @ front.matrix_basis
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
        for item in shown:  # the object that a camera saw stands where its splats do
            item.hide_render = True
        for frame in _moments(collection):
            current.frame_set(int(frame), subframe=frame % 1)
            bpy.ops.render.render(write_still=True)
            check_png(rendered)
            moments.append(_pixels(rendered))
    finally:
        rendered.unlink(missing_ok=True)
        for item in shown:
            item.hide_render = False
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
    check_png(path)


def _moments(collection: bpy.types.Collection) -> list[float]:
    """Frames of the scene, evenly spread over the motion; the current one if nothing moves."""
    current = bpy.context.scene
    (body,) = scene.splat_objects(collection)
    count = len(scene.frame_objects(body))
    if not count:
        return [current.frame_current]
    return [scene.scene_frame(body, i * count // MOMENTS, current) for i in range(MOMENTS)]


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
    bpy.utils.unregister_cli_command(_commands.pop())
