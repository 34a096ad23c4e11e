"""SPZ, Niantic's compressed splats: every value in one to four bytes, packed by gzip or zstd.

Version 4 is packed by zstd, those before it by gzip.

Written is version 3, which every reader of the format knows. What reading gives back differs by at most

    places       1/8192 m (coarser where splats are more than 2 km from the origin)
    sizes        1/32 in the natural logarithm: 3.2 %
    rotations    0.16 degrees
    colours      1.7/255, opacities 0.5/255, higher harmonics 1/256

Facts: github.com/nianticlabs/spz (MIT), its README and load-spz.cc.
"""

from __future__ import annotations

import importlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ..output_folder import whole_file
from ..ply import GaussianCloud
from ..protocol import DioramaError
from .quantised import believable, damaged, from_three_smallest, shared_degree, three_smallest, to_bytes, unit

_HEADER = struct.Struct("<4sIIBBBB")  # mark, version, splats, degree, fractional bits, flags, streams
_COLOUR = 0.15  # of the range of a byte, for a constant harmonic of 1
_XYZW = [1, 2, 3, 0]  # from w x y z
_WXYZ = [3, 0, 1, 2]


def count_spz(path: Path | str) -> int:
    """How many splats a file holds.

    Raises:
        DioramaError: E_PLY
    """
    with open(path, "rb") as file:
        return _header(_start(file.read(4096), path), path)[1]


def read_spz(path: Path | str) -> GaussianCloud:
    """Read an SPZ file of version 1 to 4, as stored: Y up.

    Raises:
        DioramaError: E_PLY; E_ENVIRONMENT if it is of version 4 and this Python has no zstandard.
    """
    data = Path(path).read_bytes()
    version, count, degree, bits, streams = _header(_start(data[:4096], path), path)
    higher = (degree + 1) ** 2 - 1
    sizes = [
        count * each for each in (6 if version == 1 else 9, 1, 3, 3, 3 if version < 3 else 4, 3 * higher)
    ]
    if version < 4:
        payload = _gunzip(data, _HEADER.size + sum(sizes), path)
        ends = np.cumsum([_HEADER.size, *sizes])
        parts = [np.frombuffer(payload, np.uint8, size, end) for size, end in zip(sizes, ends, strict=False)]
    else:
        parts = _streams(data, streams, sizes, path)
    places, alphas, colours, scales, turns, sh = parts
    with np.errstate(over="ignore"):
        return GaussianCloud(
            means=_places(places, version, bits),
            quats=_turns(turns.reshape(count, -1), version),
            scales=np.exp(scales.reshape(count, 3) / np.float32(16) - 10).astype(np.float32),
            opacities=alphas / np.float32(255),
            sh=np.concatenate(
                [
                    (
                        (colours.reshape(count, 1, 3) / np.float32(255) - np.float32(0.5))
                        / np.float32(_COLOUR)
                    ),
                    (sh.reshape(count, higher, 3).astype(np.float32) - 128) / 128,
                ],
                axis=1,
            ),
        )


def write_spz(path: Path | str, cloud: GaussianCloud) -> None:
    """Write an SPZ file of version 3; the cloud's Y is up.

    Raises:
        OSError: if it cannot be written; an earlier file of that name is then still there.
    """
    reach = float(np.abs(cloud.means).max())
    bits = min(12, max(0, math.floor(23 - math.log2(max(reach, 1e-9) * 1.0001))))
    places = np.round(cloud.means.astype(np.float64) * 2.0**bits).astype("<i4")
    largest, three = three_smallest(cloud.quats[:, _XYZW])
    packed = largest.astype("<u4")
    magnitudes = np.round(np.abs(three) * (511 * math.sqrt(2))).astype("<u4")
    for i in range(3):
        packed = packed << 10 | (three[:, i] < 0).astype("<u4") << 9 | np.minimum(magnitudes[:, i], 511)
    sh = np.clip(np.round(cloud.sh[:, 1:] * 128) + 128, 0, 255).astype(np.uint8)
    parts = (
        _HEADER.pack(b"NGSP", 3, len(cloud), cloud.sh_degree, bits, 0, 0),
        places.view(np.uint8).reshape(-1, 4)[:, :3].tobytes(),
        to_bytes(cloud.opacities).tobytes(),
        to_bytes(cloud.sh[:, 0] * _COLOUR + 0.5).tobytes(),
        np.clip(np.round((np.log(cloud.scales.astype(np.float64)) + 10) * 16), 0, 255)
        .astype(np.uint8)
        .tobytes(),
        packed.astype("<u4").tobytes(),
        sh.tobytes(),
    )
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)  # gzip without a time: the same splats, the same bytes
    with whole_file(path) as partial, open(partial, "wb") as file:
        for part in parts:
            file.write(packer.compress(part))
        file.write(packer.flush())


def _start(data: bytes, path: Path | str) -> bytes:
    """The header, of whichever version."""
    if data.startswith(b"NGSP"):
        return data[: _HEADER.size]
    try:
        return zlib.decompressobj(31).decompress(data, _HEADER.size)
    except zlib.error as error:
        raise damaged(path, f"it cannot be unpacked: {error}") from error


def _header(start: bytes, path: Path | str) -> tuple[int, int, int, int, int]:
    """Version, splats, degree, fractional bits, streams."""
    if len(start) < _HEADER.size or not start.startswith(b"NGSP"):
        raise damaged(path, "it is no SPZ file, or cut short")
    _, version, count, degree, bits, _, streams = _HEADER.unpack(start)
    if not 1 <= version <= 4:
        raise DioramaError(
            "E_PLY", f"{path} is SPZ of version {version}; 1 to 4 are known", "Save it as version 3."
        )
    if bits > 24:
        raise damaged(path, f"{bits} fractional bits are more than its places have")
    return (
        version,
        believable(count, path, Path(path).stat().st_size),
        shared_degree(degree, path),
        bits,
        streams,
    )


def _gunzip(data: bytes, size: int, path: Path | str) -> bytes:
    try:
        unpacker = zlib.decompressobj(31)
        out = unpacker.decompress(data, size)
        more = unpacker.decompress(unpacker.unconsumed_tail, 1)  # extensions, or the end with its checksum
    except zlib.error as error:
        raise damaged(path, f"it cannot be unpacked: {error}") from error
    if len(out) < size or not (more or unpacker.eof):
        raise damaged(path, f"it is cut short: its splats need {size} bytes, there are {len(out)}")
    return out


def _streams(data: bytes, count: int, sizes: list[int], path: Path | str) -> list[np.ndarray]:
    """The parts of version 4: a table of sizes, then one zstd stream for every part that is not empty."""
    (table,) = struct.unpack_from("<I", data.ljust(20), 16)
    if table + 16 * count > len(data) or count != sum(size > 0 for size in sizes):
        raise damaged(path, "its table of contents is wrong")
    lengths = np.frombuffer(data, "<u8", 2 * count, table).reshape(-1, 2)
    start, row = table + 16 * count, 0
    parts = []
    for size in sizes:
        part = b""
        if size:
            packed, unpacked = (int(length) for length in lengths[row])
            if unpacked != size or start + packed > len(data):
                raise damaged(path, f"it is cut short: {size} bytes of its splats are not there")
            part = _unzstd(data[start : start + packed], size, path)
            start, row = start + packed, row + 1
        parts.append(np.frombuffer(part, np.uint8))
    return parts


def _unzstd(data: bytes, size: int, path: Path | str) -> bytes:
    """At most so many bytes. Blender brings zstandard, and Python a module of its own since 3.14."""
    try:
        import zstandard
    except ImportError:
        return _unzstd_by_python(data, size, path)
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as stream:
            return _whole(stream.read(size), size, path)
    except zstandard.ZstdError as error:
        raise damaged(path, f"it cannot be unpacked: {error}") from error


def _unzstd_by_python(data: bytes, size: int, path: Path | str) -> bytes:
    try:
        zstd = importlib.import_module("compression.zstd")
    except ImportError:
        raise DioramaError(
            "E_ENVIRONMENT",
            f"{path} is SPZ of version 4, which this Python cannot unpack: it has no zstandard",
            "Save it as version 3, or install the package zstandard.",
        ) from None
    try:
        return _whole(zstd.ZstdDecompressor().decompress(data, size), size, path)
    except (zstd.ZstdError, EOFError) as error:
        raise damaged(path, f"it cannot be unpacked: {error}") from error


def _whole(part: bytes, size: int, path: Path | str) -> bytes:
    if len(part) != size:
        raise damaged(path, f"it is cut short: {size} bytes of its splats are {len(part)}")
    return part


def _places(data: np.ndarray, version: int, bits: int) -> np.ndarray:
    if version == 1:
        return data.view("<f2").reshape(-1, 3).astype(np.float32)
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = data.reshape(-1, 3)  # into the upper bytes, so that the sign comes along
    return ((wide.view("<i4")[:, 0] >> 8) / np.float32(2.0**bits)).reshape(-1, 3).astype(np.float32)


def _turns(data: np.ndarray, version: int) -> np.ndarray:
    if version < 3:
        three = data / np.float32(127.5) - 1
        rest = np.sqrt(np.maximum(0, 1 - np.einsum("nk,nk->n", three, three)))
        return unit(np.concatenate([rest[:, None], three], axis=1))
    packed = np.ascontiguousarray(data).view("<u4")[:, 0]
    three = np.empty((len(packed), 3), np.float32)
    for i in range(3):
        value = packed >> (10 * (2 - i))
        three[:, i] = (value & 511) * np.where(value & 512, -1, 1) / np.float32(511 * math.sqrt(2))
    return from_three_smallest((packed >> 30).astype(np.int64), three)[:, _WXYZ]
