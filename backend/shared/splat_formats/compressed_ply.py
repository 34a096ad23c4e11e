"""The compressed PLY of SuperSplat: 256 splats at a time in 16 bytes each, between the chunk's extremes.

What reading gives back differs by at most half a step: places 1/2047 (y: 1/1023) of their chunk's extent,
sizes the same in the logarithm, colours 1/255 of their chunk's, opacities 1/255, rotations 0.2 degrees,
higher harmonics 1/32.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..output_folder import whole_file
from ..ply import SH_C0, GaussianCloud, read_elements
from .quantised import believable, damaged, from_three_smallest, three_smallest, to_bytes

_CHUNK = 256
_EXTREMES = [
    f"{end}_{name}"
    for names in (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
    for end in ("min", "max")
    for name in names
]
_PACKED = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]


def is_compressed(start: bytes) -> bool:
    """Whether the beginning of a PLY says that it is one of these."""
    return b"packed_position" in start.partition(b"end_header")[0]


def count_compressed_ply(path: Path | str) -> int:
    """How many splats a file holds.

    Raises:
        DioramaError: E_PLY
    """
    return next(each.count for each in _elements(path) if each.name == "vertex")


def read_compressed_ply(path: Path | str) -> GaussianCloud:
    """Read a compressed PLY.

    Raises:
        DioramaError: E_PLY
    """
    tables = {
        each.name: np.memmap(path, each.dtype, "r", each.offset, (each.count,))
        for each in _elements(path)
        if each.count
    }
    vertices, chunks = tables["vertex"], tables["chunk"]
    count = len(vertices)
    chunk = np.arange(count) // _CHUNK

    def between(names: tuple[str, str, str], share: np.ndarray) -> np.ndarray:
        low, high = (
            np.stack([chunks[f"{end}_{name}"] for name in names], axis=1)[chunk] for end in ("min", "max")
        )
        return low + share * (high - low)

    rgba = np.stack([vertices["packed_color"] >> shift & 255 for shift in (24, 16, 8, 0)], axis=1)
    rgba = rgba / np.float32(255)
    colours = rgba[:, :3]
    if "min_r" in (chunks.dtype.names or ()):
        colours = between(("r", "g", "b"), colours)
    sh = ((colours - np.float32(0.5)) / np.float32(SH_C0))[:, None]
    if "sh" in tables:
        rest = tables["sh"]
        higher = len(rest.dtype.names or ()) // 3
        values = np.stack([rest[f"f_rest_{i}"] for i in range(3 * higher)], axis=1)
        values = ((values.astype(np.float32) + 0.5) / 256 - 0.5) * 8  # the middle of a step
        sh = np.concatenate([sh, values.reshape(count, 3, higher).transpose(0, 2, 1)], axis=1)
    turns = vertices["packed_rotation"]
    three = np.stack([turns >> shift & 1023 for shift in (20, 10, 0)], axis=1)
    three = (three / np.float32(1023) - np.float32(0.5)) * np.float32(math.sqrt(2))
    with np.errstate(over="ignore"):
        return GaussianCloud(
            means=between(("x", "y", "z"), _unpacked(vertices["packed_position"])).astype(np.float32),
            quats=from_three_smallest((turns >> 30).astype(np.int64), three),
            scales=np.exp(
                between(("scale_x", "scale_y", "scale_z"), _unpacked(vertices["packed_scale"]))
            ).astype(np.float32),
            opacities=rgba[:, 3].astype(np.float32),
            sh=sh.astype(np.float32),
        )


def write_compressed_ply(path: Path | str, cloud: GaussianCloud) -> None:
    """Write a compressed PLY, with splats that are near each other in the same chunk.

    Raises:
        OSError: if it cannot be written; an earlier file of that name is then still there.
    """
    order = _along_a_curve(cloud.means)
    count = len(cloud)
    starts = np.arange(0, count, _CHUNK)
    chunk = np.arange(count) // _CHUNK
    extremes, shares = [], []
    for values in (
        cloud.means[order],
        np.clip(np.log(cloud.scales[order].astype(np.float64)), -20, 20).astype(np.float32),
        (0.5 + SH_C0 * cloud.sh[order, 0]).astype(np.float32),
    ):
        low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        extent = high - low
        extremes += [low, high]
        shares.append((values - low[chunk]) / np.where(extent > 0, extent, 1)[chunk])
    largest, three = three_smallest(cloud.quats[order])
    turns = largest.astype("<u4")
    for i in range(3):
        step = np.clip(np.round((three[:, i] / math.sqrt(2) + 0.5) * 1023), 0, 1023)
        turns = turns << 10 | step.astype("<u4")
    rgba = np.concatenate([to_bytes(shares[2]), to_bytes(cloud.opacities[order])[:, None]], axis=1)
    packed = np.stack([_packed(shares[0]), turns, _packed(shares[1]), rgba.view(">u4")[:, 0]], axis=1)
    header = ["ply", "format binary_little_endian 1.0", "comment Diorama", f"element chunk {len(starts)}"]
    header += [f"property float {name}" for name in _EXTREMES]
    header += [f"element vertex {count}", *(f"property uint {name}" for name in _PACKED)]
    higher = cloud.sh.shape[1] - 1
    if higher:
        header += [f"element sh {count}", *(f"property uchar f_rest_{i}" for i in range(3 * higher))]
    rest = np.clip(np.floor((cloud.sh[order, 1:] / 8 + 0.5) * 256), 0, 255).astype(np.uint8)
    with whole_file(path) as partial, open(partial, "wb") as file:
        file.write("\n".join([*header, "end_header", ""]).encode("ascii"))
        file.write(np.concatenate(extremes, axis=1).astype("<f4").data)
        file.write(packed.astype("<u4").data)
        file.write(np.ascontiguousarray(rest.transpose(0, 2, 1)).data)


def _elements(path: Path | str) -> list:
    """The elements of the file, which must be those of this format."""
    found = {each.name: each for each in read_elements(path)}
    if not {"chunk", "vertex"} <= found.keys():
        raise damaged(path, "it has no chunks")
    chunk, vertex, sh = found["chunk"], found["vertex"], found.get("sh")
    end = max(each.offset + each.count * each.dtype.itemsize for each in found.values())
    believable(vertex.count, path, Path(path).stat().st_size, vertex.dtype.itemsize)
    if end > (size := Path(path).stat().st_size):
        raise damaged(path, f"it is cut short: {end} bytes are needed, the file has {size}")
    missing = [name for name in _EXTREMES[:12] if name not in (chunk.dtype.names or ())]
    missing += [name for name in _PACKED if name not in (vertex.dtype.names or ())]
    if missing:
        raise damaged(path, f"its chunks or splats lack {', '.join(missing)}")
    if chunk.count * _CHUNK < vertex.count:
        raise damaged(path, f"{chunk.count} chunks are too few for {vertex.count} splats")
    if sh and sh.count:
        names = [f"f_rest_{i}" for i in range(len(sh.dtype.names or ()))]
        if (
            sh.count != vertex.count
            or len(names) not in (9, 24, 45)
            or set(names) != set(sh.dtype.names or ())
        ):
            raise damaged(path, "its spherical harmonics are not those of degree 1 to 3 of every splat")
    return list(found.values())


def _packed(share: np.ndarray) -> np.ndarray:
    """0..1 [N, 3] in 11, 10 and 11 bits."""
    x, y, z = np.clip(np.round(share * [2047, 1023, 2047]), 0, [2047, 1023, 2047]).astype("<u4").T
    return x << 21 | y << 11 | z


def _unpacked(packed: np.ndarray) -> np.ndarray:
    bits = ((21, 2047), (11, 1023), (0, 2047))
    return np.stack([(packed >> shift & most) / np.float32(most) for shift, most in bits], axis=1)


def _along_a_curve(means: np.ndarray) -> np.ndarray:
    """An order in which neighbours are near each other: bits of x, y and z in turn (Morton 1966)."""
    low, high = means.min(axis=0), means.max(axis=0)
    cells = ((means - low) / np.where(high > low, high - low, 1) * 1023).astype(np.uint32)
    code = np.zeros(len(means), np.uint32)
    for bit in range(10):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << np.uint32(3 * bit + axis)
    return np.argsort(code, kind="stable")
