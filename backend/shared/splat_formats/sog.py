"""SOG, PlayCanvas's splats in lossless WebP images: a zip, or the `meta.json` of one that was unpacked.

What is written is version 2, what is read 1 and 2. What reading gives back differs by at most

    places       1/131070 of the extent of sign(x) ln(1 + |x|) along each axis
    rotations    0.5 degrees
    sizes, colours   half the distance to the nearest of 256 values chosen for the file
    opacities    1/510
    higher harmonics   the same, and above 65,536 splats those of the nearest of as many clusters

Facts: developer.playcanvas.com, SOG format specification.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..output_folder import whole_file
from ..ply import GaussianCloud
from .palettes import clusters, codebook
from .quantised import believable, damaged, from_three_smallest, three_smallest, to_bytes

_MAX_META = 1 << 20
_MAX_ENTRIES = 1 << 16  # of the palette of harmonics: their numbers have 16 bits
_ROW = 64  # entries of that palette in a row of its image
_SH_WIDTHS = {3 * _ROW: 1, 8 * _ROW: 2, 15 * _ROW: 3}
_FAULTS = (KeyError, IndexError, TypeError, ValueError, OSError, zipfile.BadZipFile, RuntimeError)


def count_sog(path: Path | str) -> int:
    """How many splats a file says it holds.

    Raises:
        DioramaError: E_PLY
    """
    meta, read = _opened(path)
    return _count(meta, path, lambda name: len(read(name)))


def read_sog(path: Path | str, decode: Callable[[bytes], np.ndarray]) -> GaussianCloud:
    """Read an SOG file, or an unpacked one by its meta.json.

    Args:
        decode: makes [h, w, 4] uint8 of a WebP file's bytes.

    Raises:
        DioramaError: E_PLY
    """
    meta, read = _opened(path)
    count = _count(meta, path, lambda name: len(read(name)))
    try:
        return _read(meta, count, lambda name: _pixels(read(name), decode, count, path))
    except _FAULTS as error:
        raise damaged(path, f"it is no SOG that can be read: {error}") from error


def write_sog(path: Path | str, cloud: GaussianCloud, encode: Callable[[np.ndarray], bytes]) -> None:
    """Write an SOG file of version 2.

    Args:
        encode: makes a WebP file's bytes of [h, w, 4] uint8, without loss.

    Raises:
        OSError: if it cannot be written; an earlier file of that name is then still there.
    """
    count = len(cloud)
    width = math.ceil(math.sqrt(count) / 4) * 4
    height = math.ceil(count / width / 4) * 4
    images: dict[str, bytes] = {}

    def image(name: str, *columns: np.ndarray) -> str:
        pixels = np.full((height * width, 4), 255, np.uint8)
        for i, column in enumerate(np.column_stack(columns).T):
            pixels[:count, i] = column
        images[name] = encode(pixels.reshape(height, width, 4))
        return name

    logs = np.sign(cloud.means) * np.log1p(np.abs(cloud.means.astype(np.float64)))
    low, high = logs.min(axis=0), logs.max(axis=0)
    steps = np.round((logs - low) / np.where(high > low, high - low, 1) * 65535).astype(np.uint16)
    largest, three = three_smallest(cloud.quats)
    sizes, size_steps = codebook(np.log(cloud.scales))
    colours, colour_steps = codebook(cloud.sh[:, 0])
    # Encoders may drop the colours of what is wholly transparent.
    opacities = np.maximum(to_bytes(cloud.opacities), 1)
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": "Diorama"},
        "count": count,
        "means": {
            "mins": low.tolist(),
            "maxs": high.tolist(),
            "files": [image("means_l.webp", steps & 255), image("means_u.webp", steps >> 8)],
        },
        "scales": {"codebook": sizes.tolist(), "files": [image("scales.webp", size_steps)]},
        "quats": {"files": [image("quats.webp", to_bytes(three * math.sqrt(0.5) + 0.5), 252 + largest)]},
        "sh0": {"codebook": colours.tolist(), "files": [image("sh0.webp", colour_steps, opacities)]},
    }
    if cloud.sh_degree:
        higher = cloud.sh.shape[1] - 1
        entries, labels = clusters(cloud.sh[:, 1:].reshape(count, -1), _MAX_ENTRIES)
        values, value_steps = codebook(entries)
        rows = math.ceil(len(entries) / _ROW)
        palette = np.full((rows * _ROW, higher, 4), 255, np.uint8)
        palette[: len(entries), :, :3] = value_steps.reshape(-1, higher, 3)
        images["shN_centroids.webp"] = encode(palette.reshape(rows, _ROW * higher, 4))
        meta["shN"] = {
            "count": len(entries),
            "bands": cloud.sh_degree,
            "codebook": values.tolist(),
            "files": ["shN_centroids.webp", image("shN_labels.webp", labels & 255, labels >> 8, 0 * labels)],
        }
    with whole_file(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {"meta.json": json.dumps(meta).encode(), **images}.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def _opened(path: Path | str) -> tuple[dict[str, Any], Callable[[str], bytes]]:
    """The description in meta.json, and a function that reads the files beside it."""
    path = Path(path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = {Path(name).name: name for name in archive.namelist()}
                if "meta.json" not in names:
                    raise ValueError("there is no meta.json in it")

            def read(name: str) -> bytes:
                with zipfile.ZipFile(path) as archive:
                    entry = archive.getinfo(names[name])
                    if entry.file_size > max(path.stat().st_size * 64, _MAX_META):
                        raise ValueError(f"{name} is larger than it can be")
                    return archive.read(entry)

            text = read("meta.json")
        else:

            def read(name: str) -> bytes:
                if Path(name).name != name:
                    raise ValueError(f"{name} is not beside it")
                return path.with_name(name).read_bytes()

            text = path.read_bytes()[: _MAX_META + 1]
        meta = json.loads(text)
        if len(text) > _MAX_META or not {"means", "quats", "scales", "sh0"} <= meta.keys():
            raise ValueError("its meta.json is not that of splats")
    except _FAULTS as error:
        raise damaged(path, f"it is no SOG that can be read: {error}") from error
    return meta, read


def _count(meta: dict[str, Any], path: Path | str, size_of: Callable[[str], int]) -> int:
    """How many splats there are, if their images are large enough for it."""
    try:
        version = meta.get("version", 1)
        if version not in (1, 2):
            raise ValueError(f"version {version} is not known, 1 and 2 are")
        count = int(meta["count"] if version == 2 else meta["means"]["shape"][0])
        # Lossless WebP of noise, as the lower bytes of places are, has no less than a bit a splat.
        size = sum(size_of(name) for part in ("means", "quats") for name in meta[part]["files"])
    except _FAULTS as error:
        raise damaged(path, f"it is no SOG that can be read: {error}") from error
    return believable(count, path, size)


def _pixels(data: bytes, decode: Callable[[bytes], np.ndarray], count: int, path: Path | str) -> np.ndarray:
    """The pixels of an image, which must be no larger than its splats, or a palette, need."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("its images are no WebP files")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 16383) + 1, (bits >> 14 & 16383) + 1
    elif data[12:16] == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    else:
        raise ValueError("its images are not lossless")
    if width * height > 2 * count + 16 * _MAX_ENTRIES:
        raise ValueError(f"an image of {width} × {height} is too large for {count} splats")
    return decode(data)


def _read(meta: dict[str, Any], count: int, pixels: Callable[[str], np.ndarray]) -> GaussianCloud:
    def image(part: str, index: int = 0) -> np.ndarray:
        flat = pixels(meta[part]["files"][index]).reshape(-1, 4)
        if len(flat) < count:
            raise ValueError(f"the image of {part} is too small for {count} splats")
        return flat[:count]

    steps = image("means")[:, :3] | image("means", 1)[:, :3].astype(np.uint16) << 8
    low, high = (np.array(meta["means"][end], np.float64) for end in ("mins", "maxs"))
    logs = low + (high - low) * (steps / 65535)
    turns = image("quats")
    largest = turns[:, 3].astype(np.int64) - 252
    three = (turns[:, :3] / np.float32(255) - np.float32(0.5)) * np.float32(math.sqrt(2))
    quats = from_three_smallest(np.maximum(largest, 0), three)
    quats[largest < 0] = (1, 0, 0, 0)
    colours = image("sh0")
    if meta.get("version", 1) == 2:
        dc, opacities = _looked_up(meta["sh0"], colours[:, :3]), colours[:, 3] / np.float32(255)
    else:
        values = _looked_up(meta["sh0"], colours)
        dc, opacities = values[:, :3], 1 / (1 + np.exp(-values[:, 3]))
    sh = dc[:, None]
    if meta.get("shN"):
        palette = pixels(meta["shN"]["files"][0])
        higher = palette.shape[1] // _ROW
        entries = palette.reshape(-1, higher, 4)[:, :, :3]
        labels = image("shN", 1)[:, :2].astype(np.int64)
        if palette.shape[1] not in _SH_WIDTHS:
            raise ValueError(f"a palette of harmonics {palette.shape[1]} wide is not of degree 1 to 3")
        rest = _looked_up(meta["shN"], entries)[labels[:, 0] | labels[:, 1] << 8]
        sh = np.concatenate([sh, rest], axis=1)
    return GaussianCloud(
        means=(np.sign(logs) * np.expm1(np.abs(logs))).astype(np.float32),
        quats=quats,
        scales=np.exp(_looked_up(meta["scales"], image("scales")[:, :3])).astype(np.float32),
        opacities=opacities.astype(np.float32),
        sh=sh.astype(np.float32),
    )


def _looked_up(part: dict[str, Any], steps: np.ndarray) -> np.ndarray:
    """Bytes as the values they stand for: those of a list, or in version 1 between two extremes."""
    if "codebook" in part:
        return np.array(part["codebook"], np.float32)[steps]
    low, high = (np.array(part[end], np.float32) for end in ("mins", "maxs"))
    return low + (high - low) * (steps / np.float32(255))
