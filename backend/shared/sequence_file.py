"""Moving splats in one compact file: what they look like once, where they are in every frame.

A `.npz` archive of plain arrays (nothing in it can be code), for clouds of the same splats in the same order
that only move and turn. What reading gives back differs from what was written by at most

    places       1/131070 of the sequence's extent along each axis
    rotations    0.004 degrees
    sizes        0.8 % (half of a step of float16 in the logarithm, down to 1e-7 m)
    opacities    0.00025
    harmonics    0.05 %
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np

from .output_folder import whole_file
from .ply import GaussianCloud, refuse_pipe
from .protocol import DioramaError

SUFFIX = ".npz"
VERSION = 1
Blending = Literal["linear", "display"]  # the space in which splats are blended: light, or sRGB values
BLENDINGS: tuple[Blending, ...] = get_args(Blending)

_DAMAGED = "The file is damaged or is no sequence of splats; export it again."
_STEPS = 2**16 - 1
_FAULTS = (
    OSError, EOFError, KeyError, ValueError, IndexError, TypeError, AttributeError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class SplatSequence:
    """Clouds of the same splats in the same order, one per frame."""

    clouds: list[GaussianCloud]
    fps: float
    blending: Blending


def write_sequence(
    path: Path | str, clouds: Sequence[GaussianCloud], fps: float, blending: Blending = "linear"
) -> None:
    """Write clouds that differ in places and rotations only.

    Places and rotations are kept as whole numbers of 16 bits, and of those the change of their velocity,
    which is small and so packs well; adding up whole numbers loses nothing.

    Raises:
        DioramaError: E_PLY if the clouds are not of the same splats.
        OSError: if it cannot be written; an earlier file of that name is then still there.
    """
    _check_same(clouds, str(path))
    means = np.stack([cloud.means for cloud in clouds]).astype(np.float64)  # [F, N, 3]
    quats = np.stack([cloud.quats for cloud in clouds]).astype(np.float64)  # [F, N, 4]
    for frame in range(1, len(quats)):  # of the two quaternions of a rotation, the one nearer to the last
        quats[frame] *= np.where((quats[frame] * quats[frame - 1]).sum(1, keepdims=True) < 0, -1, 1)
    low = means.min(axis=(0, 1))
    step = np.maximum(means.max(axis=(0, 1)) - low, 1e-9) / _STEPS
    first = clouds[0]
    with whole_file(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(
            file,
            version=np.array(VERSION),
            size=np.array(quats.shape[:2]),
            fps=np.array(float(fps)),
            blending=np.array(blending),
            low=low,
            step=step,
            places=_packed(np.rint((means - low) / step)),
            turns=_packed(np.rint((quats + 1) / 2 * _STEPS)),
            log_scales=np.log(first.scales.astype(np.float64)).astype("<f2"),
            opacities=first.opacities.astype("<f2"),
            sh=first.sh.astype("<f2"),
        )


def read_sequence(path: Path | str) -> SplatSequence:
    """Read what `write_sequence` wrote.

    Raises:
        DioramaError: E_PLY for files that are something else, damaged, or of a newer Diorama.
    """
    refuse_pipe(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            frames, count = _size(file, path)
            low, step = (_array(file, name, (3,)).astype(np.float64) for name in ("low", "step"))
            means = low + step * _unpacked(_array(file, "places", (2, frames, count, 3)))
            quats = _unpacked(_array(file, "turns", (2, frames, count, 4))) * (2 / _STEPS) - 1
            quats /= np.linalg.norm(quats, axis=-1, keepdims=True)
            sh = file["sh"]
            shared = GaussianCloud(
                means=means[0].astype(np.float32),
                quats=quats[0].astype(np.float32),
                scales=np.exp(_array(file, "log_scales", (count, 3)).astype(np.float32)),
                opacities=_array(file, "opacities", (count,)).astype(np.float32),
                sh=_array(file, "sh", (count, sh.shape[1], 3)).astype(np.float32),
            )
            fps, blending = float(file["fps"]), str(file["blending"])
    except _FAULTS as error:
        raise _unreadable(path, error) from error
    values = (means, quats, *vars(shared).values())
    if not all(np.isfinite(part).all() for part in values):
        raise DioramaError("E_PLY", f"{path} holds values that are not finite", _DAMAGED)
    if not 0 < fps < 1e4:
        raise DioramaError("E_PLY", f"{path} plays {fps} frames a second", _DAMAGED)
    if blending not in BLENDINGS:
        raise DioramaError("E_PLY", f"{path} is composited in an unknown way: {blending!r}", _DAMAGED)
    clouds = [
        replace(shared, means=mean.astype(np.float32), quats=quat.astype(np.float32))
        for mean, quat in zip(means, quats, strict=True)
    ]
    return SplatSequence(clouds, fps, cast(Blending, blending))


def sequence_size(path: Path | str) -> tuple[int, int]:
    """Frames, and splats in each, without reading them.

    Raises:
        DioramaError: E_PLY if it is no sequence of splats.
    """
    refuse_pipe(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return _size(file, path)
    except _FAULTS as error:
        raise _unreadable(path, error) from error


def _packed(values: np.ndarray) -> np.ndarray:  # [F, ...] whole numbers 0..65535 -> uint8 [2, F, ...]
    """Changes of velocity, small ones as small numbers without sign, low and high bytes apart."""
    change = values.astype(np.int64)
    change[1:] -= change[:-1].copy()
    change[2:] -= change[1:-1].copy()
    change = change.astype(np.uint16).astype(np.int16).astype(np.int32)  # modulo 2^16, as is adding up
    folded = ((change << 1) ^ (change >> 31)).astype(np.uint16)
    return np.stack([folded & 255, folded >> 8]).astype(np.uint8)


def _unpacked(planes: np.ndarray) -> np.ndarray:  # uint8 [2, F, ...] -> [F, ...] 0..65535
    folded = planes[0].astype(np.int64) | planes[1].astype(np.int64) << 8
    change = (folded >> 1) ^ -(folded & 1)
    change[1:] = np.cumsum(change[1:], axis=0)
    return np.cumsum(change, axis=0) % (_STEPS + 1)


def _size(file: np.lib.npyio.NpzFile, path: Path | str) -> tuple[int, int]:
    version = int(file["version"])
    if version > VERSION:
        raise DioramaError("E_PLY", f"{path} was made by a newer Diorama", "Update the extension.")
    frames, count = (int(number) for number in file["size"])
    if frames < 1 or count < 1:
        raise ValueError(f"{frames} frames of {count} splats")
    return frames, count


def _array(file: np.lib.npyio.NpzFile, name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = file[name]
    if values.shape != shape:
        raise ValueError(f"{name} is {values.shape} instead of {shape}")
    return values


def _check_same(clouds: Sequence[GaussianCloud], name: str) -> None:
    if not clouds:
        raise DioramaError("E_PLY", f"{name}: there are no frames", "At least one is needed.")
    hint = "Only tracked splats fit in one file; keep the others as one PLY per frame."
    first = clouds[0]
    for frame, cloud in enumerate(clouds):
        if len(cloud) != len(first):
            raise DioramaError(
                "E_PLY", f"{name}: frame {frame} has {len(cloud)} splats, frame 0 has {len(first)}", hint
            )
        for what in ("scales", "opacities", "sh"):
            if not np.array_equal(getattr(cloud, what), getattr(first, what)):
                raise DioramaError("E_PLY", f"{name}: frame {frame} has other {what} than frame 0", hint)


def _unreadable(path: Path | str, error: Exception) -> DioramaError:
    return DioramaError("E_PLY", f"{path} cannot be read as a sequence of splats: {error}", _DAMAGED)
