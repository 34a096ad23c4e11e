"""Reads captures, images with their cameras in transforms.json: ours, nerfstudio's, instant-ngp's, NeRF's."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from ..shared.protocol import DioramaError

TRANSFORMS = ("transforms.json", "transforms_train.json")  # the latter: NeRF's synthetic scenes
FEW_VIEWS = 16  # with fewer, none is held out
HELD_OUT = 8  # one of so many
_ENDINGS = (".png", ".jpg", ".jpeg")  # of images that are named without one
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_BACK = "Write it again with the tool that made it, or leave that frame out of transforms.json."


@dataclass(frozen=True)
class View:
    """One image and its camera."""

    rgba: Tensor  # [H, W, 4] uint8, sRGB, straight alpha; 255 where the image has none
    K: Tensor  # [3, 3] pixels
    camera: Tensor  # [4, 4] camera-to-world, Blender's axes

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width."""
        return self.rgba.shape[0], self.rgba.shape[1]

    def shrunk(self, factor: int) -> View:
        """The same in pixels so many times larger; what is left at the right and below is cut off."""
        if factor == 1:
            return self
        height, width = (side // factor for side in self.size_px)
        pixels = self.rgba[: height * factor, : width * factor].float()
        pixels[..., :3] *= pixels[..., 3:] / 255
        pixels = pixels.reshape(height, factor, width, factor, 4).mean((1, 3))
        pixels[..., :3] *= 255 / pixels[..., 3:].clamp_min(1)
        K = self.K.clone()
        K[:2] /= factor
        return View(pixels.round().clamp(0, 255).to(torch.uint8), K, self.camera)


@dataclass(frozen=True)
class Capture:
    """Views of something, frame after frame if it moves."""

    frames: list[list[View]]  # [F][V] to be fitted to
    held_out: list[list[View]]  # [F][V] to be measured with
    has_alpha: bool  # the images say what is the object; else everything is
    fps: float | None  # of frames that move
    points: np.ndarray | None  # [N, 3] on the surface, of a sparse reconstruction
    colors: np.ndarray | None  # [N, 3] sRGB 0..1, of the points


def read_capture(folder: Path, longest_px: int) -> Capture:
    """Reads the images and cameras of a folder.

    Understood are: `camera_angle_x`, or `fl_x`, `fl_y`, `cx`, `cy`, `w`, `h` for all images or in each frame;
    file names without an ending; RGBA or RGB images; lens distortion of OpenCV's model, which is taken out;
    `transforms_train.json` with `transforms_test.json`, or one file, of whose views every eighth is held out;
    a sparse cloud in `ply_file_path` or `points3D.ply`; `time` of frames that several cameras see at once.

    Args:
        longest_px: larger images are scaled down.

    Raises:
        DioramaError: E_CAPTURE, naming what is missing or wrong.
    """
    path = next((folder / name for name in TRANSFORMS if (folder / name).is_file()), None)
    if path is None:
        raise _error(
            f"{folder} holds no {TRANSFORMS[0]}", "Choose a folder with images and a transforms.json."
        )
    data = _read_json(path)
    moments = _moments(path, data["frames"])
    test = folder / "transforms_test.json"
    held_apart = path.name == TRANSFORMS[1] and test.is_file() and len(moments) == 1
    frames, held_out = [], []
    for entries in moments:
        used, kept = entries, []
        if len(entries) >= FEW_VIEWS and not held_apart:
            kept, used = (
                entries[HELD_OUT - 1 :: HELD_OUT],
                [e for i, e in enumerate(entries, 1) if i % HELD_OUT],
            )
        frames.append([_view(folder, data, entry, longest_px) for entry in used])
        held_out.append([_view(folder, data, entry, longest_px) for entry in kept])
    if held_apart:
        others = _read_json(test)
        every = others["frames"][:: max(1, len(others["frames"]) // 24)]
        held_out = [[_view(folder, {**data, **others}, entry, longest_px) for entry in every]]
    has_alpha = any(int(view.rgba[..., 3].min()) < 128 for view in frames[0])
    points, colors = _points(folder, data) if not has_alpha else (None, None)
    fps = data.get("fps") if len(frames) > 1 else None
    return Capture(frames, held_out, has_alpha, fps, points, colors)


def every_view(capture: Capture) -> Iterator[View]:
    """All views, of all frames, those held out too."""
    for views in (*capture.frames, *capture.held_out):
        yield from views


def moved(capture: Capture, center: Tensor, scale: float) -> Capture:  # [3]
    """The same capture of the world `scale * (x - center)`."""

    def each(views: list[View]) -> list[View]:
        result = []
        for view in views:
            camera = view.camera.clone()
            camera[:3, 3] = scale * (camera[:3, 3] - center)
            result.append(replace(view, camera=camera))
        return result

    points = None if capture.points is None else scale * (capture.points - center.numpy())
    frames, held_out = ([each(views) for views in part] for part in (capture.frames, capture.held_out))
    return replace(capture, frames=frames, held_out=held_out, points=points)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _error(f"{path} cannot be read: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("frames"), list) or not data["frames"]:
        raise _error(f"{path} lists no frames: it names no images")
    if not all(isinstance(each, dict) for each in data["frames"]):
        raise _error(f"{path}: its frames are no objects with file_path and transform_matrix")
    return data


def _moments(path: Path, entries: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The entries of each moment in time; all in one if nothing moves."""
    times = sorted({float(entry.get("time", 0)) for entry in entries})
    if len(times) == 1:
        moments = [entries]
    else:
        moments = [[e for e in entries if float(e.get("time", 0)) == time] for time in times]
    for time, seen in zip(times, moments, strict=True):
        if len(seen) < 2:
            when = f" of the moment {time:g}" if len(times) > 1 else ""
            raise _error(
                f"{path} has one view{when}: depth cannot be seen with one eye",
                "At least two images are needed of every moment, better 20 or more from all around.",
            )
    return moments


def _view(folder: Path, data: dict[str, Any], entry: dict[str, Any], longest_px: int) -> View:
    name = entry.get("file_path")
    if not isinstance(name, str) or not name:
        raise _error(f"{folder}: a frame of transforms.json has no file_path")
    path = _image_path(folder, name)
    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGBA"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise _error(f"{path} cannot be read as an image: {error}", _BACK) from error
    lens = {**data, **entry}
    height, width = pixels.shape[:2]
    said = lens.get("w", width), lens.get("h", height)
    if said != (width, height):
        raise _error(
            f"{path} is {width} × {height} pixels, transforms.json says {said[0]} × {said[1]}",
            "Its cameras belong to images of another size: use those, or correct fl_x, cx, w and the like.",
        )
    K = _intrinsics(path, lens, width, height)
    camera = _pose(path, entry.get("transform_matrix"))
    pixels = _undistorted(path, pixels, K, lens)
    factor = min(1.0, longest_px / max(height, width))
    if factor < 1:
        size = max(1, round(width * factor)), max(1, round(height * factor))
        K[0] *= size[0] / width
        K[1] *= size[1] / height
        # premultiplied, as Pillow's "La" and "RGBa" modes are: hidden colours must not bleed in
        small = Image.fromarray(pixels).convert("RGBa").resize(size, Image.Resampling.BOX).convert("RGBA")
        pixels = np.array(small)
    return View(torch.from_numpy(pixels), torch.from_numpy(K).float(), torch.from_numpy(camera).float())


def _image_path(folder: Path, name: str) -> Path:
    path = folder / name.replace("\\", "/")
    for found in (path, *(path.with_name(path.name + ending) for ending in _ENDINGS)):
        if found.is_file():
            return found
    raise _error(f"{path} is missing: transforms.json names it", "Put the images where it says they are.")


def _intrinsics(path: Path, lens: dict[str, Any], width: int, height: int) -> np.ndarray:  # [3, 3]
    model = lens.get("camera_model", "PINHOLE")
    if model not in ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE"):
        raise _error(
            f"{path} was taken with a lens of the model {model!r}", "Undistort it to a pinhole first."
        )
    angle_x, angle_y = lens.get("camera_angle_x"), lens.get("camera_angle_y")
    focal_x, focal_y = lens.get("fl_x"), lens.get("fl_y")
    if focal_x is None and angle_x is not None:
        focal_x = width / (2 * math.tan(angle_x / 2))
    if focal_y is None and angle_y is not None and lens.get("fl_x") is None:
        focal_y = height / (2 * math.tan(angle_y / 2))
    if focal_x is None:
        raise _error(
            f"{path} has no intrinsics: neither fl_x nor camera_angle_x is given",
            "Add fl_x, in pixels, or camera_angle_x, in radians, to transforms.json.",
        )
    values = focal_x, focal_y or focal_x, lens.get("cx", width / 2), lens.get("cy", height / 2)
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values) or focal_x <= 0:
        raise _error(f"{path} has intrinsics that make no sense: fl_x, fl_y, cx, cy = {values}")
    return np.array([[values[0], 0, values[2]], [0, values[1], values[3]], [0, 0, 1]], np.float64)


def _pose(path: Path, matrix: Any) -> np.ndarray:  # [4, 4]
    """A camera without scale or shear, which some tools leave in it."""
    try:
        pose = np.array(matrix, np.float64)
        if pose.shape == (3, 4):
            pose = np.concatenate([pose, [[0, 0, 0, 1]]])
        if pose.shape != (4, 4):
            raise ValueError
    except (TypeError, ValueError):
        raise _error(f"{path} has no transform_matrix of 4 × 4 numbers", _BACK) from None
    if not np.isfinite(pose).all():
        raise _error(f"{path} has a transform_matrix with NaN or infinity", _BACK)
    left, sizes, right = np.linalg.svd(pose[:3, :3])
    if sizes.min() < 1e-6 or np.linalg.det(left @ right) < 0:
        raise _error(f"{path} has a transform_matrix that is no camera: it is flat or mirrored", _BACK)
    pose[:3, :3] = left @ right
    return pose


def _undistorted(path: Path, pixels: np.ndarray, K: np.ndarray, lens: dict[str, Any]) -> np.ndarray:
    """The image as a pinhole would have taken it, its edge repeated beyond the image.

    Source: OpenCV's model of radial (k1 to k4) and tangential (p1, p2) distortion.
    """
    k1, k2, k3, k4, p1, p2 = (float(lens.get(name) or 0) for name in _DISTORTION)
    if not any((k1, k2, k3, k4, p1, p2)):
        return pixels
    if not np.isfinite([k1, k2, k3, k4, p1, p2]).all():
        raise _error(f"{path} has distortion that is not finite")
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    x, y = (x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
    bent_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    bent_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    where = np.stack([bent_x * K[0, 0] + K[0, 2], bent_y * K[1, 1] + K[1, 2]], -1)
    grid = torch.from_numpy(where / [width, height] * 2 - 1).float()
    image = torch.from_numpy(pixels).float().movedim(-1, 0)
    found = grid_sample(image[None], grid[None], "bilinear", "border", align_corners=False)
    return found[0].movedim(0, -1).round().clamp(0, 255).to(torch.uint8).numpy()


def _points(folder: Path, data: dict[str, Any]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The sparse cloud beside the images, if there is one that can be read."""
    named = data.get("ply_file_path")
    candidates = [folder / str(named)] if named else [folder / "points3D.ply", folder / "sparse_pc.ply"]
    path = next((each for each in candidates if each.is_file()), None)
    if path is None:
        return None, None
    import trimesh

    try:
        cloud: Any = trimesh.load(path, process=False)
        places = np.asarray(cloud.vertices, np.float32)
        colors = np.asarray(getattr(cloud, "colors", None) if hasattr(cloud, "colors") else None)
    except Exception as error:  # the reader's own errors are of every kind
        raise _error(f"{path} cannot be read as a point cloud: {error}", "Leave it out.") from error
    usable = np.isfinite(places).all(1)
    if places.ndim != 2 or not usable.any():
        return None, None
    painted = colors.ndim == 2 and len(colors) == len(places)
    return places[usable], colors[usable, :3].astype(np.float32) / 255 if painted else None


def _error(message: str, hint: str = "") -> DioramaError:
    return DioramaError("E_CAPTURE", message, hint)
