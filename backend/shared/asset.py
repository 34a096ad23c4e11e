"""The asset folder: everything one generation made, checked and complete, as plain files.

    asset.json            what was asked and made, sizes and sha256 of every file; written last
    splats/0000.ply …     one 3DGS PLY per animation frame
    splats/sequence.npz   the same in one compact file, where the frames have the same splats (tracked)
    views/v00_f0000.png   the generated views, straight alpha
    transforms.json       their cameras in nerfstudio's format
    mesh.glb              the first frame as a textured mesh; not in every asset
    source/object.png     what the model was conditioned on, cut out; not in every asset
    source/prompt.png     the image that was made of the prompt, if it was made from that
    source/Camera.png     what a camera saw, if it was made from that
    source/               or a whole capture with transforms.json, if it was made from that
    preview.png           contact sheet

A folder without asset.json is unfinished, whatever else it holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np

from . import output_folder
from .manifests import is_inside, sha256
from .ply import GaussianCloud, read_ply, write_ply
from .protocol import DioramaError
from .request import SIDES
from .sequence_file import BLENDINGS, Blending, write_sequence

__all__ = ["Asset", "GaussianCloud", "read_asset", "read_ply", "write_asset", "write_ply"]

SCHEMA = 1
MANIFEST = "asset.json"
MESH = "mesh.glb"
SOURCE = "source"  # a folder for the images, or the capture, from which the asset was made
LAYOUT = output_folder.Layout(
    MANIFEST,
    frozenset({MANIFEST, "splats", "views", "transforms.json", MESH, "preview.png", SOURCE}),
)
Front = Literal["+X", "-Y"]  # the axis that the object faces
FPS = 8.0  # of moving assets that do not say it: video networks learn from every third frame of 24


@dataclass(frozen=True)
class Asset:
    """A finished asset folder whose files were found complete and unchanged."""

    directory: Path
    request: dict[str, Any]
    image_sha256: str  # of the request's images, as they were when the asset was made; "" if there is none
    model: str
    seed: int
    blending: Blending  # the space that its splats are blended in
    front: Front
    splats: tuple[Path, ...]  # one per animation frame
    tracked: bool  # the frames have the same splats in the same order, so that there is something between
    fps: float  # animation frames a second
    views: tuple[tuple[Path, ...], ...]  # [V][F]
    cameras: np.ndarray  # [V, 4, 4] camera-to-world, Blender's axes, metres
    fov_deg: float  # horizontal
    width: int
    height: int
    timings: dict[str, float]  # seconds per stage
    preview: Path
    mesh: Path | None

    @property
    def prompt(self) -> str:
        return str(self.request.get("prompt", ""))


def write_asset(
    directory: Path | str,
    *,
    request: dict[str, Any],
    model: str,
    clouds: list[GaussianCloud],
    views: np.ndarray,  # [V, F, H, W, 3|4] sRGB, straight alpha, 0..1
    cameras: np.ndarray,  # [V, 4, 4] camera-to-world
    fov_deg: float,  # horizontal
    blending: Blending,
    timings: dict[str, float],
    preview: np.ndarray | None = None,  # [h, w, 3] sRGB; a contact sheet of the views if None
    mesh: bytes | Path | None = None,  # a GLB file, in the splats' world
    front: Front = "+X",
    tracked: bool = False,
    fps: float = FPS,
    sources: Mapping[str, np.ndarray] = MappingProxyType({}),  # [h, w, 3|4] sRGB, straight alpha
    figures: dict[str, float] | None = None,
) -> Path:
    """Write an asset folder; an earlier asset in the same folder is replaced once the new one is complete.

    Args:
        tracked: the clouds are of the same splats in the same order and differ in places and rotations only.
        fps: animation frames a second.
        sources: images that it was made from, by their names in `source/`.
        figures: what was measured of the result, to be kept with it.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE or E_DISK_FULL, with nothing half-written left behind; E_PLY if a
            cloud holds values that are not finite, or the clouds are not `tracked` as they are said to be.
    """
    directory = Path(directory)
    with _staged(directory, request) as staging:
        _write_files(staging, clouds, views, cameras, fov_deg, preview)
        if tracked:
            write_sequence(staging / "splats/sequence.npz", clouds, fps, blending)
        for name, image in sources.items():
            (staging / SOURCE).mkdir(exist_ok=True)
            write_png(staging / SOURCE / f"{name}.png", image)
        if mesh is not None:
            (staging / MESH).write_bytes(mesh if isinstance(mesh, bytes) else mesh.read_bytes())
        made = [path.relative_to(staging).as_posix() for path in staging.rglob("*") if path.is_file()]
        manifest = {
            "schema": SCHEMA,
            "request": request,
            "model": model,
            "seed": int(request.get("seed", 0)),
            "blending": blending,
            "front": front,
            "splat_counts": [len(cloud) for cloud in clouds],
            "tracked": tracked,
            "fps": fps,
            "timings": {stage: round(float(seconds), 3) for stage, seconds in timings.items()},
            "files": output_folder.listed(staging, made),
        }
        if figures is not None:
            manifest["figures"] = figures
        _finish(directory, manifest, staging)
    return directory


def receive_asset(directory: Path, request: dict[str, Any], fetch: Callable[[str], bytes]) -> Path:
    """Copies an asset that another computer made into a folder here, as whole as if it had been made here.

    Args:
        request: as it was made here; there, an image had another path.
        fetch: reads a file of the asset's folder there.

    Raises:
        DioramaError: E_ASSET if what arrives is not what its manifest says; E_OUTPUT_UNWRITABLE, E_DISK_FULL.
    """
    with _staged(directory, request) as staging:
        (staging / MANIFEST).write_bytes(fetch(MANIFEST))
        manifest = read_manifest(staging)
        for name in map(str, manifest.get("files", {})):
            if not is_inside(name):
                raise _error(f"{name} lies outside the asset's folder")
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).write_bytes(fetch(name))
        read_asset(staging)
        _finish(directory, {**manifest, "request": request}, staging)
    return directory


def _finish(directory: Path, manifest: dict[str, Any], staging: Path) -> None:
    request = manifest["request"]
    picture = output_folder.listed(directory, own_picture(directory, request))
    whole = {**manifest, "image_sha256": image_sha256(request), "files": {**manifest["files"], **picture}}
    output_folder.finish(directory, LAYOUT, whole, staging)


@contextlib.contextmanager
def _staged(directory: Path, request: dict[str, Any]) -> Iterator[Path]:
    """A folder within the asset's to write into, gone in the end; the system's errors become ours."""
    claim(directory, request)
    try:
        with output_folder.partial_folder(directory) as staging:
            yield staging
    except OSError as error:
        raise output_folder.unwritable(directory, error) from error


def claim(directory: Path, request: dict[str, Any]) -> None:
    """Make a folder ready for an asset.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE if it holds something else, or E_DISK_FULL.
    """
    try:
        output_folder.claim(directory, LAYOUT, own_picture(directory, request).values())
    except OSError as error:
        raise output_folder.unwritable(directory, error) from error


def read_asset(directory: Path | str) -> Asset:
    """Read an asset folder and check that every file of its manifest is there, complete and unchanged.

    Raises:
        DioramaError: E_ASSET naming the first thing that is wrong.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    try:
        if manifest["schema"] > SCHEMA:
            raise _error(f"{directory} was made by a newer Diorama", "Update the extension.")
        for name, expected in manifest["files"].items():
            _check_file(directory, name, expected["size"], expected["sha256"])
        if manifest["blending"] not in BLENDINGS:
            raise _error(f"{directory}: blending {manifest['blending']!r} is not one of {BLENDINGS}")
        if manifest["front"] not in get_args(Front):
            raise _error(f"{directory}: front {manifest['front']!r} is neither +X nor -Y")
        splats = tuple(directory / name for name in sorted(manifest["files"]) if _is_frame(name))
        if not splats:
            raise _error(f"{directory} holds no splats")
        transforms = json.loads((directory / "transforms.json").read_text("utf-8"))
        frames: dict[int, list[dict[str, Any]]] = {}
        for frame in transforms["frames"]:
            if frame["file_path"] not in manifest["files"]:
                raise _error(f"{directory}: transforms.json names {frame['file_path']}, asset.json does not")
            frames.setdefault(frame["view"], []).append(frame)
        cameras = np.array([frames[view][0]["transform_matrix"] for view in sorted(frames)], np.float64)
        if cameras.shape[1:] != (4, 4) or not np.isfinite(cameras).all():
            raise _error(f"{directory}: transforms.json holds cameras that are no finite 4×4 matrices")
        return Asset(
            directory=directory,
            request=manifest["request"],
            image_sha256=str(manifest.get("image_sha256", "")),  # assets of before do not know it
            model=str(manifest["model"]),
            seed=int(manifest["seed"]),
            blending=manifest["blending"],
            front=manifest["front"],
            splats=splats,
            tracked=bool(manifest.get("tracked", False)),  # assets of before know neither
            fps=float(manifest.get("fps", FPS)),
            views=tuple(
                tuple(directory / frame["file_path"] for frame in frames[view]) for view in sorted(frames)
            ),
            cameras=cameras,
            fov_deg=math.degrees(transforms["camera_angle_x"]),
            width=int(transforms["w"]),
            height=int(transforms["h"]),
            timings=manifest["timings"],
            preview=directory / "preview.png",
            mesh=directory / MESH if MESH in manifest["files"] else None,
        )
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, OSError) as error:
        raise _error(f"{directory} is damaged: {type(error).__name__} {error}") from error


def view_name(view: int, frame: int) -> str:
    return f"views/v{view:02d}_f{frame:04d}.png"


def contact_sheet(views: np.ndarray) -> np.ndarray:
    """All views over white: in a grid as square as possible, or a row of frames for each that moves.

    Args:
        views: [V, F, H, W, 3|4] sRGB, straight alpha.

    Returns:
        [rows * H, columns * W, 3]
    """
    if views.shape[-1] == 4:
        views = views[..., :3] * views[..., 3:] + (1 - views[..., 3:])
    count, frames, height, width, _ = views.shape
    columns = frames if frames > 1 else math.ceil(math.sqrt(count))
    rows = math.ceil(count * frames / columns)
    sheet = np.ones((rows * columns, height, width, 3), np.float32)
    sheet[: count * frames] = views.reshape(-1, height, width, 3)
    sheet = sheet.reshape(rows, columns, height, width, 3).transpose(0, 2, 1, 3, 4)
    return sheet.reshape(rows * height, columns * width, 3)


def _write_files(
    folder: Path,
    clouds: list[GaussianCloud],
    views: np.ndarray,
    cameras: np.ndarray,
    fov_deg: float,
    preview: np.ndarray | None,
) -> None:
    view_count, frame_count, height, width, _ = views.shape
    (folder / "splats").mkdir()
    (folder / "views").mkdir()
    for frame, cloud in enumerate(clouds):
        write_ply(folder / f"splats/{frame:04d}.ply", cloud)
    for view in range(view_count):
        for frame in range(frame_count):
            write_png(folder / view_name(view, frame), views[view, frame])
    write_png(folder / "preview.png", contact_sheet(views) if preview is None else preview)
    angle = math.radians(fov_deg)
    focal = width / (2 * math.tan(angle / 2))
    transforms = {
        "camera_model": "OPENCV",
        "camera_angle_x": angle,
        "fl_x": focal,
        "fl_y": focal,
        "cx": width / 2,
        "cy": height / 2,
        "w": width,
        "h": height,
        "ply_file_path": "splats/0000.ply",
        "frames": [
            {
                "file_path": view_name(view, frame),
                "transform_matrix": np.asarray(cameras[view], np.float64).tolist(),
                "view": view,
                "time": frame / max(frame_count - 1, 1),
            }
            for view in range(view_count)
            for frame in range(frame_count)
        ],
    }
    (folder / "transforms.json").write_text(json.dumps(transforms, indent=1) + "\n", "utf-8")


def write_png(path: Path, image: np.ndarray) -> None:  # [H, W, 3|4]
    """An image of sRGB values 0..1, with straight alpha if it has any."""
    from PIL import Image  # the backend has it; Blender, which only reads assets, does not

    Image.fromarray(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)).save(path)


def own_picture(directory: Path, request: dict[str, Any]) -> dict[str, Path]:
    """The image, or the capture, that the asset is made from, if it was made for that in its folder."""
    image = Path(request.get("image") or "")
    found = [image] if image.is_file() and image.parent == directory / SOURCE else []
    if request.get("capture") and Path(request["capture"]) == directory / SOURCE:
        found = [path for path in (directory / SOURCE).rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path for path in found}


def image_sha256(request: dict[str, Any]) -> str:
    """What is in the images of a request now: a checksum, or "" if there is none to read."""
    sums = []
    for image in (Path(request[name]) for name in SIDES if request.get(name)):
        with contextlib.suppress(OSError):
            sums += [sha256(image)] if image.is_file() else []
    return hashlib.sha256("".join(sums).encode()).hexdigest() if len(sums) > 1 else "".join(sums)


def read_manifest(directory: Path) -> dict[str, Any]:
    """What the asset in a folder says of itself, without a look at its files.

    Raises:
        DioramaError: E_ASSET.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise _error(f"{directory} holds no finished asset: {MANIFEST} is missing")
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _error(f"{path} cannot be read: {error}") from error
    if not isinstance(manifest, dict):
        raise _error(f"{path} is not a manifest")
    return manifest


def _check_file(directory: Path, name: str, size: int, checksum: str) -> None:
    path = directory / name
    if not is_inside(name):
        raise _error(f"{directory}: {name} lies outside the folder")
    if not path.is_file():
        raise _error(f"{directory}: {name} is missing")
    if not path.resolve().is_relative_to(directory.resolve()):
        raise _error(f"{directory}: {name} is a link that leads out of the folder")
    if path.stat().st_size != size:
        raise _error(f"{directory}: {name} has {path.stat().st_size} bytes instead of {size}")
    if sha256(path) != checksum:
        raise _error(f"{directory}: {name} was changed after it was made")


def _is_frame(name: str) -> bool:
    return name.startswith("splats/") and name.endswith(".ply")


def _error(message: str, hint: str = "") -> DioramaError:
    return DioramaError("E_ASSET", message, hint)
