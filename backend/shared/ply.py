"""Gaussian splats as numpy arrays, and the PLY file in which every splat viewer keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .output_folder import whole_file
from .protocol import DioramaError

SH_C0 = 0.28209479177387814  # the constant spherical harmonic, 1 / (2 sqrt(pi))

_DAMAGED_HINT = "The file is damaged or was written by a faulty program; export it again."
_MAX_HEADER = 64 * 1024
_Z_UP = "comment Z is up (Diorama)"
_DISPLAY = "comment Composited in display space (Diorama)"
_PROPERTY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "<i2", "ushort": "<u2", "int": "<i4", "uint": "<u4",
    "float": "<f4", "double": "<f8", "int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2",
    "int32": "<i4", "uint32": "<u4", "float32": "<f4", "float64": "<f8",
}  # fmt: skip
_POSITION = ("x", "y", "z")
_NORMAL = ("nx", "ny", "nz")
_DC = ("f_dc_0", "f_dc_1", "f_dc_2")
_SCALE = ("scale_0", "scale_1", "scale_2")
_ROTATION = ("rot_0", "rot_1", "rot_2", "rot_3")
_REST_COUNTS = (0, 9, 24, 45)  # f_rest fields of SH degrees 0 to 3


@dataclass(frozen=True)
class GaussianCloud:
    """N Gaussians in plain units, float32: what the PLY stores as logits and logarithms is undone here."""

    means: np.ndarray  # [N, 3] metres
    quats: np.ndarray  # [N, 4] w x y z, unit length
    scales: np.ndarray  # [N, 3] standard deviations along the rotated axes, metres
    opacities: np.ndarray  # [N] 0..1
    sh: np.ndarray  # [N, K, 3] spherical harmonics, K = (degree + 1)^2; sRGB colour = 0.5 + SH_C0 * sh[:, 0]

    def __len__(self) -> int:
        return len(self.means)

    @property
    def sh_degree(self) -> int:
        return round(self.sh.shape[1] ** 0.5) - 1

    def only(self, kept: np.ndarray) -> GaussianCloud:  # [N] bool, or indices
        """Some of the Gaussians."""
        return GaussianCloud(**{name: values[kept] for name, values in vars(self).items()})


@dataclass(frozen=True)
class PlyHeader:
    """The part of a PLY that says how its splats are stored."""

    count: int
    dtype: np.dtype  # one record per splat
    offset: int  # first byte of the first splat


@dataclass(frozen=True)
class PlyElement:
    """One of the tables in a PLY."""

    name: str
    count: int
    dtype: np.dtype  # one record
    offset: int  # first byte of the first record


def write_ply(path: Path | str, cloud: GaussianCloud, *, z_up: bool = True, blending: str = "linear") -> None:
    """Write a cloud as the binary little-endian 3DGS PLY (opacity as logit, scale as logarithm).

    Args:
        z_up: note in the file that Z is up in it, which other programs do not have.
        blending: "linear", or "display" to note that too: files of other programs do not say it.

    Raises:
        DioramaError: E_PLY if the cloud holds no splats, values that are not finite, or impossible sizes.
        OSError: if it cannot be written; an earlier file of that name is then still there.
    """
    check(cloud, str(path), "Repair the splats, or leave those out.")
    rest = cloud.sh[:, 1:].transpose(0, 2, 1).reshape(len(cloud), -1)  # the format keeps all reds first
    names = [*_POSITION, *_NORMAL, *_DC, *(f"f_rest_{i}" for i in range(rest.shape[1])), "opacity", *_SCALE]
    names += _ROTATION
    opacities = np.clip(cloud.opacities.astype(np.float64), 2**-20, 1 - 2**-20)
    logits = np.log(opacities / (1 - opacities))
    logits = np.where(logits < 0, _steady(logits), logits)
    columns = (
        cloud.means,
        np.zeros_like(cloud.means),
        cloud.sh[:, 0],
        rest,
        logits[:, None],
        _steady(np.log(cloud.scales.astype(np.float64))),
        cloud.quats,
    )
    records = np.concatenate([np.asarray(column, "<f4") for column in columns], axis=1)
    notes = [_Z_UP] * z_up + [_DISPLAY] * (z_up and blending == "display")
    header = ["ply", "format binary_little_endian 1.0", *notes, f"element vertex {len(cloud)}"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    with whole_file(path) as partial, open(partial, "wb") as file:
        file.write("\n".join(header).encode("ascii"))
        file.write(records.data)  # not tofile: that does not say why it could not be written


def read_ply(path: Path | str, left_out: Callable[[str], None] | None = None) -> GaussianCloud:
    """Read a 3DGS PLY of any SH degree; unknown extra fields are ignored.

    Args:
        left_out: splats that cannot be shown are left out, and it is told how many; without it, they are
            refused.

    Raises:
        DioramaError: E_PLY for files that are no 3DGS PLY, cut short, or hold impossible values.
    """
    header = read_header(path)
    names = set(header.dtype.names or ())
    expected = header.offset + header.count * header.dtype.itemsize
    actual = Path(path).stat().st_size
    if actual < expected:
        raise _error(
            f"{path} is cut short: {header.count} splats need {expected} bytes, the file has {actual}",
            "Copy or export it again.",
        )
    records = np.memmap(path, header.dtype, "r", header.offset, (header.count,))

    def columns(*fields: str) -> np.ndarray:
        out = np.empty((header.count, len(fields)), np.float32)
        for i, field in enumerate(fields):
            out[:, i] = records[field]
        return out

    rest_count = sum(name.startswith("f_rest_") for name in names) // 3
    sh = np.empty((header.count, 1 + rest_count, 3), np.float32)
    for channel in range(3):
        sh[:, 0, channel] = records[_DC[channel]]
        for i in range(rest_count):
            sh[:, 1 + i, channel] = records[f"f_rest_{channel * rest_count + i}"]
    with np.errstate(over="ignore"):  # what overflows is reported by _check
        opacities = 1 / (1 + np.exp(-columns("opacity")[:, 0].astype(np.float64)))
        scales = np.maximum(np.exp(columns(*_SCALE).astype(np.float64)), 1e-30)  # collapsed, still a splat
        quats = columns(*_ROTATION)
        norms = np.linalg.norm(quats.astype(np.float64), axis=1, keepdims=True)
        # Unit quaternions stay as they are, bit for bit, so that writing and reading again changes nothing.
        keeps = (np.abs(norms - 1) < 1e-6) | (norms < 1e-12)  # the latter is reported by _check
        quats = np.where(keeps, quats, quats / np.where(keeps, 1, norms))
        cloud = GaussianCloud(
            means=columns(*_POSITION),
            quats=quats.astype(np.float32),
            scales=scales.astype(np.float32),
            opacities=opacities.astype(np.float32),
            sh=sh,
        )
    if left_out is not None:
        cloud = only_usable(cloud, left_out)
    check(cloud, str(path))
    return cloud


def only_usable(cloud: GaussianCloud, left_out: Callable[[str], None]) -> GaussianCloud:
    """The splats that can be shown; `left_out` is told how many others there are, and why."""
    bad = np.zeros(len(cloud), bool)
    reasons = []
    for what, which in _unusable(cloud):
        bad |= which
        reasons.append(what)
    if not bad.any():
        return cloud
    left_out(f"{int(bad.sum()):,} of {len(cloud):,} splats were left out: they have {', '.join(reasons)}")
    return cloud.only(~bad)


def refuse_pipe(path: Path | str) -> None:
    """Raises DioramaError: E_PLY for a pipe or a device: it could be waited for, or read, for ever."""
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise _error(f"{path} is a pipe or a device", "Choose a file of splats.")


def read_header(path: Path | str) -> PlyHeader:
    """Read how many splats a PLY holds and how they are stored, without reading them.

    Raises:
        DioramaError: E_PLY naming what the file is instead of a binary little-endian 3DGS PLY.
    """
    refuse_pipe(path)
    try:
        with open(path, "rb") as file:
            lines, offset = _header_lines(file, path)
    except OSError as error:
        raise _error(f"{path} cannot be read: {error.strerror}", "Choose an existing .ply file.") from error

    element, count, fields, seen = "", 0, [], []
    for line in lines[2:]:
        words = line.split()
        try:
            if words[:1] == ["element"]:
                element = words[1]
                seen.append(element)
                if element == "vertex":
                    count = int(words[2])
            elif words[:1] == ["property"] and element == "vertex":
                fields.append((words[2], _PROPERTY_TYPES[words[1]]))
        except (IndexError, KeyError, ValueError):
            raise _error(f"{path}: the header line {line!r} makes no sense", _DAMAGED_HINT) from None

    _check_fields([name for name, _ in fields], "face" in seen, path)
    if "binary_little_endian" not in lines[1]:
        what = " ".join(lines[1].split()[1:2]) or "no known format"
        raise _error(
            f"{path} is a PLY in {what}; splats are read from binary_little_endian files",
            "Convert it, for example by opening and saving it in SuperSplat.",
        )
    if seen[0] != "vertex":
        raise _error(f"{path}: the splats are not the first element", _DAMAGED_HINT)
    if count < 1:
        raise _error(f"{path} holds no splats", "Choose a file with at least one splat.")
    return PlyHeader(count, np.dtype(fields), offset)


def is_z_up(path: Path | str) -> bool:
    """Whether a PLY notes that Z is up in it, as ours do."""
    return _Z_UP in _comments(path)


def blending_of(path: Path | str) -> str:
    """The space in which a PLY's splats are to be composited: "linear" for ours, unless they say else."""
    comments = _comments(path)
    return "linear" if _Z_UP in comments and _DISPLAY not in comments else "display"


def _comments(path: Path | str) -> list[str]:
    with open(path, "rb") as file:
        return file.read(_MAX_HEADER).partition(b"end_header")[0].decode("ascii", "replace").splitlines()


def read_elements(path: Path | str) -> list[PlyElement]:
    """Read which tables a binary little-endian PLY holds and how they are stored; lists are passed over.

    Raises:
        DioramaError: E_PLY
    """
    with open(path, "rb") as file:
        lines, offset = _header_lines(file, path)
    if "binary_little_endian" not in lines[1]:
        raise _error(f"{path} is not binary_little_endian", "Save it again in SuperSplat.")
    tables: list[tuple[str, int, list[tuple[str, str]]]] = []
    for line in lines[2:]:
        words = line.split()
        try:
            if words[:1] == ["element"]:
                tables.append((words[1], int(words[2]), []))
            elif words[:1] == ["property"] and words[1:2] != ["list"]:
                tables[-1][2].append((words[2], _PROPERTY_TYPES[words[1]]))
        except (IndexError, KeyError, ValueError):
            raise _error(f"{path}: the header line {line!r} makes no sense", _DAMAGED_HINT) from None
    elements = []
    for name, count, fields in tables:
        if len({field for field, _ in fields}) != len(fields) or count < 0:
            raise _error(f"{path}: its header makes no sense", _DAMAGED_HINT)
        elements.append(PlyElement(name, count, np.dtype(fields), offset))
        offset += count * elements[-1].dtype.itemsize
    return elements


def _error(message: str, hint: str) -> DioramaError:
    return DioramaError("E_PLY", message, hint)


def _header_lines(file: BinaryIO, path: Path | str) -> tuple[list[str], int]:
    """The header's lines without comments, and the offset of the first byte after it."""
    lines: list[str] = []
    while file.tell() < _MAX_HEADER:
        raw = file.readline(_MAX_HEADER)
        line = raw.decode("ascii", "replace").strip()
        if not lines and line != "ply":
            raise _error(f"{path} is not a PLY file", "Choose a .ply file of Gaussian splats.")
        if line == "end_header" and len(lines) > 1:
            return lines, file.tell()
        if not raw:
            break
        if line and not line.startswith(("comment", "obj_info")):
            lines.append(line)
    raise _error(f"{path}: the PLY header has no end", _DAMAGED_HINT)


def _steady(logarithms: np.ndarray) -> np.ndarray:
    """Round away what float32 cannot carry through exp and log, so that reading and writing is bit-stable."""
    return np.round(logarithms * 2**21) / 2**21


def _check_fields(names: list[str], has_faces: bool, path: Path | str) -> None:
    """Refuse points that are not Gaussians, saying what they are instead."""
    missing = [name for name in (*_POSITION, *_DC, "opacity", *_SCALE, *_ROTATION) if name not in names]
    if "packed_position" in names:
        raise _error(f"{path} is a compressed splat PLY", "Export it as an ordinary PLY.")
    if missing and has_faces:
        raise _error(f"{path} is a mesh, not Gaussian splats", "Use File > Import > Stanford PLY (.ply).")
    if missing:
        raise _error(
            f"{path} is no Gaussian splat file: its points lack {', '.join(missing)}",
            "A 3DGS PLY has x y z, f_dc_0..2, opacity, scale_0..2 and rot_0..3.",
        )
    if len(set(names)) != len(names):
        raise _error(f"{path}: fields of the splats are repeated", _DAMAGED_HINT)
    rest = {name for name in names if name.startswith("f_rest_")}
    if len(rest) not in _REST_COUNTS or rest != {f"f_rest_{i}" for i in range(len(rest))}:
        raise _error(
            f"{path} has {len(rest)} f_rest fields; spherical harmonics of degree 0 to 3 have 0, 9, 24 or 45",
            _DAMAGED_HINT,
        )


def check(cloud: GaussianCloud, name: str, hint: str = _DAMAGED_HINT) -> None:
    """Refuse clouds that no renderer can show, before they are written or used."""
    if len(cloud) == 0:
        raise _error(f"{name}: there are no splats", "At least one splat is needed.")
    for what, bad in _unusable(cloud):
        raise _error(f"{name}: {int(bad.sum())} of {len(cloud)} splats have {what}", hint)


def _unusable(cloud: GaussianCloud) -> Iterator[tuple[str, np.ndarray]]:
    """What is wrong with some of the splats, and with which: [N] bool."""
    for what in ("means", "quats", "scales", "opacities", "sh"):
        finite = np.isfinite(getattr(cloud, what))
        if not finite.all():
            yield f"{what} that are not finite", ~finite.reshape(len(cloud), -1).all(axis=1)
    flat = ~(cloud.scales > 0).all(axis=1) & np.isfinite(cloud.scales).all(axis=1)
    if flat.any():
        yield "a size of zero or less", flat
    unturned = (cloud.quats.astype(np.float64) ** 2).sum(axis=1) < 1e-24
    if unturned.any():
        yield "a rotation of length zero", unturned
