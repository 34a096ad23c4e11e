"""The `.splat` of antimatter15's viewer: 32 bytes a splat and nothing else; colours of one side only."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..output_folder import whole_file
from ..ply import GaussianCloud
from .quantised import believable, colour_bytes, colours_of, damaged, to_bytes, unit

_RECORD = np.dtype(
    [("means", "<f4", 3), ("scales", "<f4", 3), ("rgb", "u1", 3), ("opacity", "u1"), ("quats", "u1", 4)]
)


def is_splat(start: bytes, size: int) -> bool:
    """Whether these first bytes of a file of that size can be splats: the format has no mark of its own."""
    records = np.frombuffer(start[: len(start) // 32 * 32], _RECORD)
    if size % 32 or not len(records):
        return False
    lengths = np.linalg.norm((records["quats"].astype(np.float64) - 128) / 128, axis=1)
    with np.errstate(invalid="ignore"):
        sane = (np.abs(lengths - 1) < 0.1) & np.all(np.abs(records["scales"]) < 1e6, axis=1)
    return bool(np.mean(sane) > 0.5)


def count_splat(path: Path | str) -> int:
    """How many splats a file holds."""
    size = Path(path).stat().st_size
    if size % 32:
        raise damaged(path, f"it is cut short: {size} bytes are no whole number of splats of 32 bytes")
    return believable(size // 32, path, size)


def read_splat(path: Path | str) -> GaussianCloud:
    """Read a `.splat` file.

    Raises:
        DioramaError: E_PLY
    """
    count_splat(path)
    records = np.fromfile(path, _RECORD)
    return GaussianCloud(
        means=records["means"].copy(),
        quats=unit((records["quats"].astype(np.float32) - 128) / 128),
        scales=np.maximum(records["scales"], 1e-30),
        opacities=records["opacity"] / np.float32(255),
        sh=colours_of(records["rgb"])[:, None],
    )


def write_splat(path: Path | str, cloud: GaussianCloud) -> None:
    """Write a `.splat` file, the most visible splats first, as viewers that draw while loading want it.

    Raises:
        OSError: if it cannot be written; an earlier file of that name is then still there.
    """
    order = np.argsort(-cloud.scales.astype(np.float64).prod(axis=1) * cloud.opacities, kind="stable")
    records = np.empty(len(cloud), _RECORD)
    records["means"], records["scales"] = cloud.means[order], cloud.scales[order]
    records["rgb"] = colour_bytes(cloud.sh[order, 0])
    records["opacity"] = to_bytes(cloud.opacities[order])
    records["quats"] = np.clip(np.round(cloud.quats[order] * 128 + 128), 0, 255).astype(np.uint8)
    with whole_file(path) as partial, open(partial, "wb") as file:
        file.write(records.data)
