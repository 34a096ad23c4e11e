"""The `.ksplat` of mkkellogg's viewer, read only: sections of splats, at three levels of compression.

Facts: github.com/mkkellogg/GaussianSplats3D (MIT), SplatBuffer.js.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..ply import GaussianCloud
from .quantised import believable, colours_of, damaged, unit

HEADER = 4096
_FIELDS = {
    "count": ("<u4", 0), "room": ("<u4", 4), "bucket_size": ("<u4", 8), "buckets": ("<u4", 12),
    "block": ("<f4", 16), "bucket_bytes": ("<u2", 20), "range": ("<u4", 24), "full": ("<u4", 32),
    "partial": ("<u4", 36), "degree": ("<u2", 40),
}  # fmt: skip
_SECTION = np.dtype(
    {
        "names": list(_FIELDS),
        "formats": [kind for kind, _ in _FIELDS.values()],
        "offsets": [offset for _, offset in _FIELDS.values()],
        "itemsize": 1024,
    }
)
_HARMONIC = ("<f4", "<f2", "u1")  # by level
_MAX_SECTIONS = 1024


def is_ksplat(start: bytes, size: int) -> bool:
    """Whether these first bytes of a file of that size are a header of this format."""
    if len(start) < HEADER or start[0] != 0 or not 1 <= start[1] < 16 or size < HEADER + _SECTION.itemsize:
        return False
    most, used, room = np.frombuffer(start, "<u4", 3, 4)
    return bool(
        1 <= most <= _MAX_SECTIONS and used <= most and int.from_bytes(start[20:22], "little") <= 2 and room
    )


def count_ksplat(path: Path | str) -> int:
    """How many splats a file holds.

    Raises:
        DioramaError: E_PLY
    """
    data = np.memmap(path, np.uint8, "r")
    return sum(int(section["count"]) for section in _sections(data, path))


def read_ksplat(path: Path | str) -> GaussianCloud:
    """Read a `.ksplat` file of any level.

    Raises:
        DioramaError: E_PLY
    """
    data = np.memmap(path, np.uint8, "r")
    level = int(data[20:22].view("<u2")[0])
    low, high = (float(value) for value in data[36:44].view("<f4"))
    low, high = low or -1.5, high or 1.5
    sections = _sections(data, path)
    degree = max(int(section["degree"]) for section in sections)
    start = HEADER + int(data[4:8].view("<u4")[0]) * _SECTION.itemsize
    parts: dict[str, list[np.ndarray]] = {"means": [], "quats": [], "scales": [], "rgba": [], "sh": []}
    for section in sections:
        record = _record(level, int(section["degree"]))
        bucket_list = start + 4 * int(section["partial"])
        first = bucket_list + int(section["bucket_bytes"]) * int(section["buckets"])
        records = data[first : first + record.itemsize * int(section["count"])].view(record)
        means: np.ndarray = records["means"].astype(np.float64)
        if level:
            sizes = data[start:bucket_list].view("<u4")
            centres = data[bucket_list:first].view("<f4").reshape(-1, 3)
            reach = int(section["range"]) or 32767
            means = (means - reach) * (float(section["block"]) / 2 / reach)
            means += centres[_bucket_of(section, sizes, len(centres), path)]
        sh = np.zeros((len(records), (degree + 1) ** 2 - 1, 3), np.float32)
        for band in range(1, int(section["degree"]) + 1):
            values: np.ndarray = records[f"sh_{band}"].astype(np.float64)  # all of red first
            if level == 2:
                values = low + values / 255 * (high - low)
            sh[:, band**2 - 1 : (band + 1) ** 2 - 1] = values.reshape(len(records), 3, -1).transpose(0, 2, 1)
        parts["means"].append(means.astype(np.float32))
        parts["rgba"].append(records["rgba"])
        parts["sh"].append(sh)
        parts["quats"].append(unit(records["quats"].astype(np.float32)))
        parts["scales"].append(np.maximum(records["scales"].astype(np.float32), 1e-30))
        start = first + record.itemsize * int(section["room"])
    whole = {name: np.concatenate(values) for name, values in parts.items()}
    rgba = whole.pop("rgba")
    whole["sh"] = np.concatenate([colours_of(rgba[:, :3])[:, None], whole["sh"]], axis=1)
    return GaussianCloud(opacities=rgba[:, 3] / np.float32(255), **whole)


def _record(level: int, degree: int) -> np.dtype:
    """How a splat is stored."""
    place, size = (("<f4", "<f4"), ("<u2", "<f2"), ("<u2", "<f2"))[level]
    fields = [("means", place, 3), ("scales", size, 3), ("quats", size, 4), ("rgba", "u1", 4)]
    fields += [(f"sh_{band}", _HARMONIC[level], 3 * (2 * band + 1)) for band in range(1, degree + 1)]
    return np.dtype(fields)


def _sections(data: np.ndarray, path: Path | str) -> list[np.void]:
    """The sections that hold splats, all of them within the file."""
    most = int(data[4:8].view("<u4")[0])
    level = int(data[20:22].view("<u2")[0])
    start = HEADER + most * _SECTION.itemsize
    if len(data) < start:
        raise damaged(path, "it is cut short within its headers")
    found = []
    for section in data[HEADER:start].view(_SECTION):
        if not section["count"]:
            continue
        if section["degree"] > 3 or section["room"] < section["count"]:
            raise damaged(path, "a section has impossible sizes")
        start += 4 * int(section["partial"]) + int(section["bucket_bytes"]) * int(section["buckets"])
        start += _record(level, int(section["degree"])).itemsize * int(section["room"])
        found.append(section)
        if level and int(section["bucket_bytes"]) != 12:
            raise damaged(path, "its buckets are not places")
    believable(sum(int(section["count"]) for section in found), path, len(data))
    if start > len(data):
        raise damaged(path, f"it is cut short: {start} bytes are needed, the file has {len(data)}")
    return found


def _bucket_of(section: np.void, sizes: np.ndarray, buckets: int, path: Path | str) -> np.ndarray:
    """Which bucket every splat of a section is in: full ones first, then those of the given sizes."""
    count, full = int(section["count"]), int(section["full"])
    each = np.concatenate([np.full(min(full, count), int(section["bucket_size"]), np.int64), sizes])
    ends = np.cumsum(each)
    if len(each) > buckets or not len(ends) or ends[-1] < count:
        raise damaged(path, "its buckets do not hold its splats")
    return np.searchsorted(ends, np.arange(count), side="right")
