"""What the compact formats share: colours in bytes, rotations without their largest part, honest headers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..ply import SH_C0
from ..protocol import DioramaError

_DAMAGED = "The file is damaged or was written by a faulty program; export it again."
_LEAST_BYTES = 1 / 64  # of a splat, however well it is packed: real ones take ten and more


def damaged(path: Path | str, what: str) -> DioramaError:
    """The error for a file that cannot be what it says it is."""
    return DioramaError("E_PLY", f"{path}: {what}", _DAMAGED)


def believable(count: int, path: Path | str, size: int, bytes_each: float = _LEAST_BYTES) -> int:
    """The count that a header promises, if the file is large enough for it; before memory is taken.

    Raises:
        DioramaError: E_PLY
    """
    if count < 1:
        raise DioramaError("E_PLY", f"{path} holds no splats", "Choose a file with at least one splat.")
    if count * bytes_each > size:
        raise damaged(path, f"it is cut short: {count} splats do not fit into its {size} bytes")
    return count


def shared_degree(degree: int, path: Path | str) -> int:
    """A degree of spherical harmonics that can be shown.

    Raises:
        DioramaError: E_PLY
    """
    if not 0 <= degree <= 3:
        raise damaged(path, f"it has spherical harmonics of degree {degree}; 0 to 3 are known")
    return degree


def colour_bytes(dc: np.ndarray) -> np.ndarray:
    """Constant harmonics [N, 3] as sRGB bytes; what is darker than black or brighter than white is cut."""
    return to_bytes(0.5 + SH_C0 * dc)


def colours_of(values: np.ndarray) -> np.ndarray:
    """sRGB bytes [N, 3] as constant harmonics."""
    return ((values / np.float32(255) - np.float32(0.5)) / np.float32(SH_C0)).astype(np.float32)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Values of 0..1 as bytes, rounded; values outside are clipped."""
    return np.clip(np.round(values * 255), 0, 255).astype(np.uint8)


def unit(quats: np.ndarray) -> np.ndarray:
    """Quaternions [N, 4] of length one; what has no direction does not turn."""
    lengths = np.linalg.norm(quats, axis=1, keepdims=True)
    flat = lengths[:, 0] < 1e-12
    quats = quats / np.where(lengths < 1e-12, 1, lengths)
    quats[flat] = (1, 0, 0, 0)
    return quats.astype(np.float32)


def three_smallest(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quaternions [N, 4] as which part is the largest [N], and the other three [N, 3] in their order.

    The largest is made positive, so that it follows from the others, none of which exceeds sqrt(1/2).
    """
    quats = unit(quats)
    largest = np.abs(quats).argmax(axis=1)
    sign = np.where(np.take_along_axis(quats, largest[:, None], 1) < 0, -1, 1)
    others = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])[largest]
    return largest, np.take_along_axis(quats * sign, others, 1)


def from_three_smallest(largest: np.ndarray, three: np.ndarray) -> np.ndarray:
    """The inverse of `three_smallest`: [N], [N, 3] -> [N, 4]."""
    quats = np.empty((len(three), 4), np.float32)
    others = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])[largest]
    np.put_along_axis(quats, others, three.astype(np.float32), 1)
    rest = np.sqrt(np.maximum(0, 1 - np.einsum("nk,nk->n", three, three)))
    np.put_along_axis(quats, largest[:, None], rest[:, None].astype(np.float32), 1)
    return unit(quats)
