"""Renders objects as they are in the file from all around, into a capture that splats can be fitted to.

Engine, lights, world and materials are the file's own; only the objects' surroundings are left out.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import bpy
import numpy as np

from . import camera_shots as shots
from . import subjects, viewpoints
from .subjects import Subject

MARGIN = 1.06  # how much larger than the object a view is
_LOOK_PX, _LOOK_FROM = 96, 2.5  # the first look, which finds how far the objects really reach
DENOISED = 4  # samples from which on renders are denoised
_PROGRESS = "Rendered view"


def main(argv: list[str], description: str, record: Callable[[argparse.Namespace], None]) -> int:
    """Renders the capture of a file, or lets `record` make a video. Returns 0; 1 if it failed."""
    parser = _parser(description)
    args = parser.parse_args(argv)
    try:
        if args.file:
            bpy.ops.wm.open_mainfile(filepath=str(args.file.resolve()))
        elif not bpy.data.filepath:
            parser.error("nothing to render: name a .blend file, or open one")
        choose(args.scene, args.layer)
        if args.turntable:
            record(args)
        elif args.out:
            for done, total in capture(args):
                tell(done, total)
        else:
            parser.error("where to? --out DIR, or --turntable FILE")
    except (ValueError, RuntimeError, OSError) as error:
        print(f"Error: {str(error).strip().removeprefix('Error: ')}", flush=True)
        return 1
    return 0


def tell(done: int, total: int) -> None:
    """Prints how far it is, for `progress`."""
    print(f"{_PROGRESS} {done} of {total}", flush=True)


def progress(line: str) -> tuple[int, int] | None:
    """How many views of how many are done, if that is what a line of the output says."""
    words = line.removeprefix(_PROGRESS).split(" of ")
    if not line.startswith(_PROGRESS) or len(words) != 2:
        return None
    return int(words[0]), int(words[1])


def capture(args: argparse.Namespace) -> Iterator[tuple[int, int]]:
    """Renders view after view into `args.out`, then writes `transforms.json`; yields how many are done.

    Raises:
        ValueError: there is nothing to be seen.
        RuntimeError: Blender cannot render.
        OSError: a file cannot be written.
    """
    scene = bpy.context.scene
    frames = list(range(args.first, args.last + 1, args.step)) if args.first is not None else []
    frames = frames or [scene.frame_current]
    subject = subject_of(args.objects)
    subjects.show_only(subject)
    samples = args.samples or _samples(scene)
    ball = ball_of(subject, frames)
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    camera = _prepare(args.size, samples, ball)
    poses = [ball.to_scene(pose) for pose in sphere(args.views, distance(1.0))]
    listed = []
    for j, frame in enumerate(frames):  # outside: simulations want their frames in order
        scene.frame_set(frame)
        for i, pose in enumerate(poses):
            name = f"images/v{i:03d}_f{j:04d}.png"
            shots.shoot(camera, pose, args.out / name)
            listed.append(_entry(name, pose, i, j, len(frames)))
            yield j * len(poses) + i + 1, len(poses) * len(frames)
    angle = math.radians(viewpoints.FOV_DEG)
    focal = args.size / (2 * math.tan(angle / 2))
    fps = scene.render.fps / scene.render.fps_base / args.step
    lens = {"camera_angle_x": angle, "fl_x": focal, "fl_y": focal, "cx": args.size / 2, "cy": args.size / 2}
    whole = {"camera_model": "PINHOLE", **lens, "w": args.size, "h": args.size, "fps": fps, "frames": listed}
    (args.out / "transforms.json").write_text(json.dumps(whole, indent=1) + "\n", "utf-8")


def sphere(count: int, radius: float) -> np.ndarray:  # [V, 4, 4]
    """Cameras spread evenly over a sphere, below as above, looking at its middle.

    Source: the golden spiral, whose points have equal areas; no two stand one above the other.
    """
    turn = math.pi * (3 - math.sqrt(5))
    heights = 1 - (2 * np.arange(count) + 1) / count
    return np.stack(
        [
            viewpoints.looking_at_origin(i * turn, math.asin(height), radius)
            for i, height in enumerate(heights)
        ]
    )


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "render_objects.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("file", nargs="?", type=Path, help="a .blend file; default: the one that Blender has open")
    add("--scene", help="default: the one that the file opens with")
    add("--layer", help="view layer")
    add("--out", type=Path, help="folder of the capture")
    add("--turntable", type=Path, metavar="FILE", help="instead, a video of the objects turning: .mp4")
    add("--seconds", type=float, default=4.0, help="of the video, for one turn")
    add("--objects", nargs="+", metavar="NAME", help="with all that is parented to them; default: everything")
    add("--views", type=int, default=64, help="cameras, all around")
    add("--size", type=int, default=512, help="pixels of a side")
    add("--samples", type=int, default=0, help="rays a pixel, denoised; 0: as the scene has them")
    add("--first", type=int, help="first frame of an animation; default: only the current frame")
    add("--last", type=int, default=0, help="its last frame")
    add("--step", type=int, default=1, help="frames of the scene from one rendered frame to the next")
    return parser


def choose(scene: str | None, layer: str | None) -> None:
    """Makes a scene and a view layer those of the context."""
    window = bpy.context.window
    if scene and scene not in bpy.data.scenes:
        raise ValueError(f"the file has no scene {scene!r}")
    if scene:
        window.scene = bpy.data.scenes[scene]
    if layer and layer not in window.scene.view_layers:
        raise ValueError(f"the scene has no view layer {layer!r}")
    if layer:
        window.view_layer = window.scene.view_layers[layer]


def subject_of(names: list[str] | None) -> Subject:
    """The objects of these names with their children, or all that there are."""
    scene = bpy.context.scene
    if not names:
        return Subject("objects", "", frozenset(item.name for item in scene.objects))
    missing = [name for name in names if name not in scene.objects]
    if missing:
        raise ValueError(f"the scene {scene.name} has no object {', '.join(missing)}")
    chosen = [scene.objects[name] for name in names]
    family = {part.name for item in chosen for part in (item, *item.children_recursive)}
    return Subject("objects", "", frozenset(family))


def ball_of(subject: Subject, frames: list[int]) -> viewpoints.Frame:
    """The sphere that holds the objects in all frames: its middle, and its radius as the unit.

    Points tell where the objects are; small quick images, how far hair, displacement and volumes reach.
    """
    scene = bpy.context.scene
    every = []
    for frame in frames:
        scene.frame_set(frame)
        every.append(subjects.points(subject))
    surface = np.concatenate(every)
    if not len(surface):
        raise ValueError("nothing of the selected objects is visible in a render")
    center = (surface.min(0) + surface.max(0)) / 2
    radius = float(np.linalg.norm(surface - center, axis=1).max())
    if not np.isfinite(radius) or radius <= 0:
        raise ValueError("the selected objects have no size")
    far = viewpoints.Frame(center, _LOOK_FROM * radius)
    camera = _prepare(_LOOK_PX, 1, far)
    path = Path(bpy.app.tempdir or ".") / "look.png"
    seen = 0.0
    for frame in (frames[0], frames[len(frames) // 2], frames[-1]) if len(frames) > 1 else frames:
        scene.frame_set(frame)
        for pose in sphere(6, distance(1.0)):
            shots.shoot(camera, far.to_scene(pose), path)
            seen = max(seen, _reach(shots.read_pixels(path)[..., 3]) * far.metres_per_unit)
    path.unlink(missing_ok=True)
    bpy.data.objects.remove(camera)
    if not seen:
        raise ValueError("nothing of the selected objects is visible in a render")
    moving = radius if len(frames) > 1 else 0.0  # between the frames that were looked at
    return viewpoints.Frame(center, MARGIN * max(seen, moving))


def distance(radius: float) -> float:
    """How far away a camera sees a sphere whole."""
    return radius / math.sin(math.radians(viewpoints.FOV_DEG) / 2)


def _reach(alpha: np.ndarray) -> float:  # [H, W]
    """The radius of what an image shows, where a sphere that fills it has 1; a pixel too large."""
    size = len(alpha)
    row, column = np.nonzero(alpha > 0.02)
    if not len(row):
        return 0.0
    edge = math.tan(math.radians(viewpoints.FOV_DEG) / 2)
    off = np.hypot(row - (size - 1) / 2, column - (size - 1) / 2).max() + 1
    return math.sin(math.atan(off * edge * 2 / size)) * distance(1.0)


def _samples(scene: bpy.types.Scene) -> int:
    """The scene's own number of rays a pixel."""
    cycles = scene.render.engine == "CYCLES"
    return int(scene.cycles.samples if cycles else scene.eevee.taa_render_samples)


def _prepare(size_px: int, samples: int, ball: viewpoints.Frame) -> bpy.types.Object:
    """Makes the open scene render square images before nothing, and returns a new camera."""
    scene = bpy.context.scene
    scene.timeline_markers.clear()  # cameras bound to them would come back
    render = scene.render
    render.resolution_x = render.resolution_y = size_px
    render.resolution_percentage = 100
    render.pixel_aspect_x = render.pixel_aspect_y = 1
    render.use_persistent_data = True  # mostly, only the camera moves
    shots.undisturbed(scene)
    if render.engine == "CYCLES":
        scene.cycles.use_animated_seed = False  # noise that changes would pass for motion
        scene.cycles.samples = samples
        scene.cycles.use_denoising = samples >= DENOISED
        # "ACCURATE" denoises albedo and normals too: that takes longer than the rays of 16 samples, and
        # changes views by far less than fitting does.
        scene.cycles.denoising_prefilter = "FAST"
    else:
        scene.eevee.taa_render_samples = samples
    data = bpy.data.cameras.new("around")
    data.sensor_fit, data.angle = "HORIZONTAL", math.radians(viewpoints.FOV_DEG)
    data.clip_start, data.clip_end = 0.01 * ball.metres_per_unit, 100 * ball.metres_per_unit
    camera = bpy.data.objects.new("around", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    return camera


def _entry(name: str, pose: np.ndarray, view: int, frame: int, frames: int) -> dict[str, object]:
    moment = {"time": frame / (frames - 1)} if frames > 1 else {}
    return {"file_path": name, "transform_matrix": pose.tolist(), "view": view, **moment}
