"""The command line of render_dataset.py: every subject of every file, one folder each, and a report."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import sys
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import bpy
import numpy as np

from . import camera_shots as shots
from . import filters, subjects, viewpoints
from .names import slug
from .subjects import Subject

DONE = "done.json"  # in an object's folder, written last
CAPTIONS = "text_captions_cap3d.json"  # G-Objaverse's name for it
Mode = Literal["videomv", "vividzoo"]
Lights = Literal["auto", "own", "added"]


@dataclass(frozen=True)
class Settings:
    """Everything that decides what an object's images look like; another value renders them again."""

    mode: Mode
    size: int
    views: int
    samples: int
    engine: shots.Engine
    lights: Lights
    elevation: float
    radius: float
    frames: int
    step: int
    textureless: float
    seed: int


def main(argv: list[str], description: str) -> int:
    """Renders what is not finished. Returns 0; 1 if an object failed; 2 or 4 if it could not begin."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # captions may be of letters that its encoding has not
            stream.reconfigure(errors="backslashreplace")
    parser = _parser(description)
    args = parser.parse_args(argv)
    values = vars(args)
    settings = Settings(**{name: values[name] for name in Settings.__dataclass_fields__})
    _check(parser, settings)
    opened = [Path(bpy.data.filepath)] if bpy.data.filepath else []
    if not args.files and not opened:
        parser.error("nothing to render: name .blend, .glb or .gltf files, or open a .blend file")
    out = args.out.resolve()
    try:
        sources = subjects.find_sources(args.files or opened)
        _captions(out)
    except ValueError as error:
        parser.error(str(error))
    try:
        out.mkdir(parents=True, exist_ok=True)
        groups: set[str] = set()
        report = []
        for source in sources:
            report += _render_file(source, _unused(source.stem, groups), out, settings)
        _write_json(out / f"report-{settings.mode}.json", {"settings": asdict(settings), "objects": report})
    except OSError as error:
        print(
            f"{out} cannot be written: {error}\nChoose another folder, or free some space.", file=sys.stderr
        )
        return 4
    counts = {status: sum(entry["status"] == status for entry in report) for status in _STATUSES}
    print(" · ".join(f"{count} {status}" for status, count in counts.items()), f"\nSaved: '{out}'")
    return 1 if counts["failed"] else 0


_STATUSES = ("rendered", "dropped", "failed", "skipped")


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "render_dataset.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("files", nargs="*", type=Path, help="files or folders; default: the .blend that Blender has open")
    add("--out", type=Path, required=True, help="folder of the data set")
    add(
        "--mode",
        choices=get_args(Mode),
        default="videomv",
        help="still orbits, or multi-view clips of what moves",
    )
    add("--size", type=int, default=256, help="pixels of a side; the published models saw 512")
    add("--views", type=int, default=24)
    add("--samples", type=int, default=16, help="rays a pixel; 4 or more are denoised")
    add("--engine", choices=get_args(shots.Engine), default="cycles")
    add(
        "--lights",
        choices=get_args(Lights),
        default="auto",
        help="auto: the file's own, if it has any",
    )
    add("--elevation", type=float, default=15.0, help="videomv: degrees above the horizon")
    add(
        "--radius", type=float, default=2.0, help="videomv: distance, in lengths of the object's longest side"
    )
    add("--frames", type=int, default=16, help="vividzoo: images of each view, at most")
    add("--step", type=int, default=3, help="vividzoo: frames of the animation from one image to the next")
    add(
        "--textureless",
        type=float,
        default=filters.PLAIN,
        help="vividzoo: share of the objects without any texture that is kept, 0 to 1",
    )
    add("--seed", type=int, default=0)
    return parser


def _check(parser: argparse.ArgumentParser, settings: Settings) -> None:
    least = {"size": 16, "views": 1, "samples": 1, "frames": 2, "step": 1}
    for name, value in least.items():
        if getattr(settings, name) < value:
            parser.error(f"--{name} is {getattr(settings, name)}, expected {value} or more")
    if not 0 <= settings.textureless <= 1:
        parser.error(f"--textureless is {settings.textureless}, expected a share from 0 to 1")
    if not 1.2 <= settings.radius <= 20 or abs(settings.elevation) >= 90:
        parser.error("--radius must be between 1.2 and 20, --elevation between -90 and 90")


def _render_file(source: Path, group: str, out: Path, settings: Settings) -> list[dict[str, Any]]:
    """Every subject of one file, and what became of it."""
    try:
        identity = {"settings": asdict(settings), "sha256": _sha256(source)}
        subjects.load(source)
        found = subjects.subjects(source.stem)
    except (OSError, RuntimeError) as error:  # the latter is what Blender's operators raise
        return [{"object": group, "source": source.name, "status": "failed", "reason": str(error).strip()}]
    report = []
    names: set[str] = set()
    for subject in found:
        name = _unused(subject.name, names)
        kind = "campos" if settings.mode == "videomv" else "video"
        tail = "_v4" if settings.mode == "videomv" else ""
        folder = out / group / name / f"{kind}_{settings.size}{tail}"
        entry: dict[str, Any] = {
            "object": f"{group}/{name}",
            "source": source.name,
            "caption": subject.caption,
        }
        began = time.monotonic()
        done = _read_json(folder / DONE)
        if done.get("identity") == identity:
            entry |= {"status": "skipped", "was": done["status"], "reason": done.get("reason")}
        elif not done and folder.exists() and any(folder.iterdir()):
            reason = f"{folder} holds files that were not made here: move them away, or choose another --out"
            entry |= {"status": "failed", "reason": reason}
        else:
            entry |= _render_subject(source, subject, folder, settings)
            entry["seconds"] = round(time.monotonic() - began, 2)
        if entry["status"] == "rendered":
            captions = _captions(out) | {entry["object"]: subject.caption}
            _write_json(out / CAPTIONS, dict(sorted(captions.items())))
        if entry["status"] in ("rendered", "dropped"):
            _write_json(folder / DONE, {**entry, "identity": identity})
        report.append(entry)
        print(f"{entry['object']}: {entry['status']} {entry.get('reason') or ''}".rstrip(), flush=True)
    return report


def _render_subject(source: Path, subject: Subject, folder: Path, settings: Settings) -> dict[str, Any]:
    """One object's images; the folder holds nothing else afterwards, and nothing if it was dropped."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _write_json(folder / DONE, {"status": "begun"})  # so that the next run knows the folder for ours
    try:
        subjects.load(source)
        subjects.show_only(subject)
        scene = bpy.context.scene
        if settings.mode == "vividzoo":
            scene.frame_set(scene.frame_start)
        surface = subjects.points(subject)
        if not len(surface):
            raise ValueError("nothing of it is visible")
        frame = viewpoints.frame_of(surface)
        rng = np.random.default_rng([settings.seed, zlib.crc32(subject.name.encode())])
        if settings.lights == "added" or (settings.lights == "auto" and not shots.has_lights()):
            shots.light("even" if settings.mode == "videomv" else "point", frame, rng)
        camera = shots.prepare(shots.Look(settings.size, settings.samples, settings.engine), frame)
        if settings.mode == "videomv":
            return _orbit(camera, frame, surface, folder, settings)
        name = f"{source.stem}/{subject.name}"
        if not subjects.textured(subject) and not filters.keeps_plain(
            name, settings.seed, settings.textureless
        ):
            reason = f"textureless: of such, {settings.textureless:.0%} are kept (--textureless 1 keeps all)"
            return {"status": "dropped", "reason": reason}
        return _clip(camera, frame, subject, folder, settings, rng)
    except (ValueError, RuntimeError) as error:  # this object's own trouble: the next one is rendered
        shutil.rmtree(folder, ignore_errors=True)
        return {"status": "failed", "reason": str(error).strip()}


def _orbit(
    camera: bpy.types.Object,
    frame: viewpoints.Frame,
    surface: np.ndarray,  # [N, 3] metres
    folder: Path,
    settings: Settings,
) -> dict[str, Any]:
    """Stills from all around, in G-Objaverse's layout: NNNNN/NNNNN.png, _nd.exr and .json."""
    bpy.context.scene.render.use_persistent_data = True  # only the camera moves
    units = frame.to_unit(surface)
    cameras = viewpoints.orbit(settings.views, settings.elevation, settings.radius)
    bounds = [units.min(0).tolist(), units.max(0).tolist()]
    for view, matrix in enumerate(cameras):
        place = folder / f"{view:05d}" / f"{view:05d}.png"
        place.parent.mkdir()
        shots.shoot(camera, frame.to_scene(matrix), place)
        shots.shoot_depth(camera, frame.to_scene(matrix), frame, place.with_name(f"{view:05d}_nd.exr"))
        _write_json(place.with_suffix(".json"), viewpoints.camera_json(matrix) | {"bbox": bounds})
    away = max(viewpoints.outside(units, matrix) for matrix in cameras)
    note = {"reason": f"{away:.0%} of it is beyond the frame in some view"} if away else {}
    return {"status": "rendered", **note}


def _clip(
    camera: bpy.types.Object,
    frame: viewpoints.Frame,
    subject: Subject,
    folder: Path,
    settings: Settings,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """A moving object from all around: view/frame.png, view/camera.json; filtered before most is rendered."""
    scene = bpy.context.scene
    cameras = viewpoints.jittered_orbit(settings.views, rng)
    grey = round(float(rng.uniform(0, 1)), 4)
    numbers = list(range(scene.frame_start, scene.frame_end + 1, settings.step))[: settings.frames]
    if len(numbers) < 2:
        return {"status": "dropped", "reason": f"static: the animation has {len(numbers)} frame"}
    away = 0.0
    for number in numbers:
        scene.frame_set(number)
        surface = frame.to_unit(subjects.points(subject))
        away = max([away, *(viewpoints.outside(surface, matrix) for matrix in cameras if len(surface))])
    moved = 1.0
    if away <= filters.AWAY:  # view 0 tells whether anything moves
        _shoot_frames(camera, frame, cameras, 0, numbers, folder)
        first = [shots.read_pixels(path) for path in sorted((folder / "00000").glob("*.png"))]
        moved = filters.motion(np.stack(first))
    measured = {"motion": round(moved, 4), "away": round(away, 4)}
    if reason := filters.dropped(moved, away):
        shutil.rmtree(folder / "00000", ignore_errors=True)
        return {"status": "dropped", "reason": reason, **measured}
    for view in range(1, settings.views):
        _shoot_frames(camera, frame, cameras, view, numbers, folder)
    clip = {"background": grey, "frames": numbers, "step": settings.step, "fps": scene.render.fps}
    _write_json(folder / "clip.json", clip)
    return {"status": "rendered", **measured}


def _shoot_frames(
    camera: bpy.types.Object,
    frame: viewpoints.Frame,
    cameras: np.ndarray,  # [V, 4, 4]
    view: int,
    numbers: list[int],
    folder: Path,
) -> None:
    place = folder / f"{view:05d}"
    place.mkdir()
    for index, number in enumerate(numbers):
        bpy.context.scene.frame_set(number)
        shots.shoot(camera, frame.to_scene(cameras[view]), place / f"{index:05d}.png")
    _write_json(place / "camera.json", viewpoints.camera_json(cameras[view]))


def _unused(name: str, taken: set[str]) -> str:
    """A folder's name that is like that name and not taken, as it is from then on."""
    folder = slug(name)
    while folder in taken:
        folder += "-2"
    taken.add(folder)
    return folder


def _captions(out: Path) -> dict[str, Any]:
    """The captions in a data set's folder; a file that cannot be read is never written over."""
    path = out / CAPTIONS
    try:
        found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; correct it, or move it away") from error
    return dict(found)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    os.replace(partial, path)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
