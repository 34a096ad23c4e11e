"""Reads rendered objects to train on: G-Objaverse's folders, and those that render_dataset.py makes.

    <root>/<group>/<object>/campos_512_v4/00000/00000.png   RGBA, and 00000.json: its camera; 00001/…
    <root>/<group>/<object>/video_256/00000/00000.png …     one frame each, and camera.json; clip.json above
    <root>/text_captions_cap3d.json                         {"<group>/<object>": "caption"}

Camera files have OpenCV's axes (x right, y down, z ahead) in a world with Z up; what is read has Blender's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..shared.protocol import DioramaError

ORBIT_VIEWS = 24  # of G-Objaverse's 40: the first ones, all at one elevation
GREY, WHITE = 128 / 255, 1.0  # behind the object: VideoMV from text, VideoMV from an image
_FOV_DEG = 39.6  # where a camera file does not say
_PNG_END = b"IEND\xaeB`\x82"
_OWN_FOLDERS = {"orbit": "campos_*_v4", "clip": "video_*"}


@dataclass(frozen=True)
class Rendered:
    """One complete object on disk."""

    name: str  # "<group>/<object>"
    folder: Path
    caption: str  # empty if there is none
    images: tuple[tuple[Path, ...], ...]  # [V][F]
    cameras: Tensor  # [V, 4, 4] camera-to-world, Blender's axes
    fov_deg: float  # horizontal
    background: float | None  # the grey that a clip is meant to have
    step: int = 1  # frames of the animation from one image of a clip to the next


@dataclass(frozen=True)
class Scan:
    """The objects found under a data set's root."""

    objects: tuple[Rendered, ...]
    skipped: dict[str, str]  # name -> why

    def report(self) -> str:
        """One line for all that is usable, and one for each that is not."""
        silent = sum(not found.caption for found in self.objects)
        lines = [
            f"{len(self.objects)} objects, {silent} of them without caption; {len(self.skipped)} skipped"
        ]
        return "\n".join(lines + [f"  {name}: {why}" for name, why in self.skipped.items()])

    def without(self, unfit: Callable[[Rendered], str | None]) -> Scan:
        """The same without those that are unfit for what is to be trained, for a reason.

        Raises:
            DioramaError: E_DATA if none is left.
        """
        reasons = {found.name: why for found in self.objects if (why := unfit(found))}
        left = tuple(found for found in self.objects if found.name not in reasons)
        rest = Scan(left, self.skipped | reasons)
        if not left:
            name, why = next(iter(reasons.items()))
            raise DioramaError(
                "E_DATA", f"nothing there can be trained on; {name}: {why}", detail=rest.report()
            )
        return rest


@dataclass(frozen=True)
class ObjectViews:
    """An object from all sides, in memory."""

    rgba: Tensor  # [V, F, 4, H, W] uint8, sRGB, straight alpha
    cameras: Tensor  # [V, 4, 4] camera-to-world, Blender's axes
    fov_deg: float
    caption: str
    background: float | None

    @property
    def masks(self) -> Tensor:  # [V, F, 1, H, W] 0..1
        return self.rgba[:, :, 3:].float() / 255

    def over(self, background: float | Tensor = GREY) -> Tensor:  # [V, F, 3, H, W] sRGB 0..1
        """The images before a background, mixed as display values, as both papers do."""
        return self.rgba[:, :, :3].float() / 255 * self.masks + background * (1 - self.masks)

    def starting_at(self, view: int) -> ObjectViews:
        """The same orbit begun at another view, so that any side can be the one in a reference image.

        Images, masks and cameras move together, and the world is turned about Z until the new view 0 stands
        at the azimuth of the old one. The released VideoMV code rolls the target frames alone: its reference
        image, cameras and reconstruction targets then belong to other frames.
        """
        order = [(view + i) % len(self.cameras) for i in range(len(self.cameras))]
        old, new = self.cameras[0, :2, 3], self.cameras[view, :2, 3]
        angle = torch.atan2(old[1], old[0]) - torch.atan2(new[1], new[0])
        turn = torch.eye(4, dtype=self.cameras.dtype)
        turn[:2, :2] = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
        return replace(self, rgba=self.rgba[order], cameras=turn @ self.cameras[order])


def scan(root: Path, kind: str = "orbit", views: int | None = ORBIT_VIEWS) -> Scan:
    """Finds the complete objects under a root; those that are incomplete or damaged are listed, not used.

    Images are not decoded: only the beginning and the end are looked at, which finds truncated ones.

    Args:
        kind: "orbit" or "clip".
        views: how many an object must have; further ones are left out. None: as many as there are.

    Raises:
        DioramaError: E_DATA if nothing usable is there, with what is wrong with the first ones.
    """
    if not root.is_dir():
        raise DioramaError("E_DATA", f"there is no data folder {root}")
    captions = _captions(root / "text_captions_cap3d.json")
    objects, skipped = [], {}
    for name in _names(root):
        folders = sorted((root / name).glob(_OWN_FOLDERS[kind]), key=lambda path: (len(path.name), path.name))
        if not folders:
            continue
        try:
            objects.append(_open(name, folders[-1], kind, views, captions.get(name, "")))
        except (ValueError, OSError, KeyError, TypeError) as error:
            missing = f"no {error}" if isinstance(error, KeyError) else str(error)
            skipped[name] = missing.replace(f"{root}/", "")
    found = Scan(tuple(objects), skipped)
    if not objects:
        of_views = "" if views is None else f" of {views} views"
        raise DioramaError("E_DATA", f"{root} holds no complete {kind}{of_views}", detail=found.report())
    return found


def load(
    item: Rendered,
    size_px: int,
    views: Sequence[int] | None = None,
    frames: Sequence[int] | None = None,
) -> ObjectViews:
    """Decodes an object's images, or some of them.

    Args:
        size_px: side of the images in memory; others are resampled.
        views: numbers of the wanted views; all if None.
        frames: numbers of the wanted frames; all if None.

    Raises:
        DioramaError: E_DATA naming the image that cannot be read.
    """
    chosen = list(range(len(item.images)) if views is None else views)
    paths = [
        [item.images[view][frame] for frame in (range(len(item.images[view])) if frames is None else frames)]
        for view in chosen
    ]
    rgba = np.stack([np.stack([_read_rgba(path, size_px) for path in row]) for row in paths])
    return ObjectViews(
        torch.from_numpy(rgba).permute(0, 1, 4, 2, 3).contiguous(),
        item.cameras[chosen],
        item.fov_deg,
        item.caption,
        item.background,
    )


def camera_from_json(data: dict[str, Any]) -> Tensor:  # [4, 4]
    """The camera-to-world matrix in Blender's axes of one camera file: columns x, -y, -z, origin.

    Raises:
        ValueError: the axes are not OpenCV's, or are not axes.
    """
    columns = np.array([data["x"], data["y"], data["z"], data["origin"]], np.float64).T  # [3, 4]
    axes = columns[:, :3]
    if not np.isfinite(columns).all() or np.abs(axes.T @ axes - np.eye(3)).max() > 1e-3:
        raise ValueError("its x, y and z are not three perpendicular axes")
    if np.linalg.det(axes) < 0 or axes[:, 2] @ columns[:, 3] > 0:
        raise ValueError("its axes are not OpenCV's: z must point ahead, at the object, and y down")
    camera = np.eye(4)
    camera[:3] = columns * np.array([1, -1, -1, 1])
    return torch.from_numpy(camera).float()


def _open(name: str, folder: Path, kind: str, views: int | None, caption: str) -> Rendered:
    done = _read_json(folder / "done.json") if (folder / "done.json").exists() else {}
    if done.get("status") == "dropped":
        raise ValueError(f"sorted out when it was rendered: {done.get('reason')}")
    clip = _read_json(folder / "clip.json") if kind == "clip" else {}
    frames = len(clip["frames"]) if kind == "clip" else 1
    images, cameras, fovs = [], [], set()
    for view in range(len(list(folder.glob("[0-9]" * 5))) if views is None else views):
        place = folder / f"{view:05d}"
        if kind == "orbit":
            row, camera_file = [place / f"{view:05d}.png"], place / f"{view:05d}.json"
        else:
            row, camera_file = [place / f"{frame:05d}.png" for frame in range(frames)], place / "camera.json"
        for path in row:
            _require_whole(path)
        data = _read_json(camera_file)
        try:
            cameras.append(camera_from_json(data))
        except ValueError as error:
            raise ValueError(f"{camera_file}: {error}") from error
        fovs.add(round(math.degrees(float(data.get("x_fov", math.radians(_FOV_DEG)))), 3))
        images.append(tuple(row))
    if len(fovs) != 1:
        raise ValueError(f"its views have different fields of view: {sorted(fovs)} degrees")
    background = float(clip["background"]) if kind == "clip" else None
    step = int(clip.get("step", 1))
    return Rendered(name, folder, caption, tuple(images), torch.stack(cameras), fovs.pop(), background, step)


def _require_whole(path: Path) -> None:
    """Raises ValueError or OSError unless there is a PNG with its end."""
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    with open(path, "rb") as file:
        begin = file.read(8)
        file.seek(max(0, path.stat().st_size - len(_PNG_END)))
        if begin != b"\x89PNG\r\n\x1a\n" or file.read() != _PNG_END:
            raise ValueError(f"{path} is truncated or no PNG")


def _read_rgba(path: Path, size_px: int) -> np.ndarray:  # [H, W, 4] uint8
    try:
        with Image.open(path) as image:
            if image.mode not in ("RGBA", "LA", "PA"):
                raise ValueError(f"its mode is {image.mode}, expected RGBA: without alpha there is no mask")
            rgba = image.convert("RGBA")
    except (OSError, ValueError, SyntaxError) as error:  # PIL's words for a damaged file
        raise DioramaError("E_DATA", f"{path} cannot be read: {error}") from error
    if rgba.size != (size_px, size_px):  # PIL weighs colours with alpha here
        rgba = rgba.resize((size_px, size_px), Image.Resampling.LANCZOS)
    return np.asarray(rgba)


def _names(root: Path) -> Iterator[str]:
    for group in sorted(path for path in root.iterdir() if path.is_dir()):
        for item in sorted(path for path in group.iterdir() if path.is_dir()):
            yield f"{group.name}/{item.name}"


def _captions(path: Path) -> dict[str, str]:
    try:
        return _read_json(path) if path.exists() else {}
    except ValueError as error:
        raise DioramaError("E_DATA", str(error)) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} is no JSON object")
    return data
