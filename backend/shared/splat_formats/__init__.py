"""Files of Gaussian splats: which formats there are, which one a file has, reading and writing it.

    format          suffix            up in the file   read   written   places          colours and opacity
    3DGS PLY        .ply              -Y (ours: Z)     yes    yes       exact           exact
    compressed PLY  .compressed.ply   -Y               yes    yes       1/1024 of 256   1/255
    SPZ             .spz              Y                yes    yes       1/4096 m        1/255
    SOG             .sog, meta.json   -Y               yes    yes       1/65535         256 values
    antimatter15    .splat            -Y               yes    yes       exact           1/255
    mkkellogg       .ksplat           -Y               yes    no        as it says      1/255
    glTF            .glb              Y                yes    yes       exact           exact

Everything is numpy; WebP, of which SOG is made, is decoded and encoded by functions that callers bring.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .. import ply
from ..ply import GaussianCloud
from ..protocol import DioramaError
from ..splat_transform import UPS, turned
from . import compressed_ply, gltf, ksplat, sog, splat, spz
from .quantised import believable

Decode = Callable[[bytes], np.ndarray]  # an image file -> [h, w, 4] uint8
Encode = Callable[[np.ndarray], bytes]  # the inverse, without loss


@dataclass(frozen=True)
class SplatFormat:
    """One format of files."""

    label: str
    suffix: str
    up: str  # the axis that points up in such files: a key of UPS


FORMATS = {
    "ply": SplatFormat("3DGS PLY", ".ply", "-Y"),
    "compressed_ply": SplatFormat("Compressed PLY", ".compressed.ply", "-Y"),
    "spz": SplatFormat("SPZ", ".spz", "Y"),
    "sog": SplatFormat("SOG", ".sog", "-Y"),
    "splat": SplatFormat("antimatter15 SPLAT", ".splat", "-Y"),
    "ksplat": SplatFormat("mkkellogg KSPLAT", ".ksplat", "-Y"),
    "gltf": SplatFormat("glTF", ".glb", "Y"),
}
WRITTEN = tuple(name for name in FORMATS if name != "ksplat")


def format_of(path: Path | str) -> str:
    """Which of FORMATS a file has, by what is in it.

    Raises:
        DioramaError: E_PLY if it cannot be opened or is none of them.
    """
    path = Path(path)
    ply.refuse_pipe(path)
    try:
        with open(path, "rb") as file:
            start = file.read(ksplat.HEADER)
    except OSError as error:
        raise DioramaError(
            "E_PLY", f"{path} cannot be read: {error.strerror}", "Choose a file of splats."
        ) from error
    if start.startswith((b"ply\n", b"ply\r")):
        return "compressed_ply" if compressed_ply.is_compressed(start) else "ply"
    if start.startswith(b"glTF"):
        return "gltf"
    if start.startswith((b"\x1f\x8b", b"NGSP")):
        return "spz"
    if start.lstrip()[:1] == b"{" or (start.startswith(b"PK") and zipfile.is_zipfile(path)):
        return "sog"
    if ksplat.is_ksplat(start, path.stat().st_size):
        return "ksplat"
    if splat.is_splat(start, path.stat().st_size):
        return "splat"
    kinds = ", ".join(each.label for each in FORMATS.values())
    raise DioramaError("E_PLY", f"{path} is no file of splats that is known", f"Known are {kinds}.")


def count_of(path: Path | str) -> int:
    """How many splats a file says it holds, without reading them; checked against the file's size.

    Raises:
        DioramaError: E_PLY
    """
    return _READERS[format_of(path)][0](path)


def up_of(path: Path | str) -> str:
    """The axis that points up in a file: by its format, or as Diorama has noted it.

    Raises:
        DioramaError: E_PLY
    """
    kind = format_of(path)
    return "Z" if kind == "ply" and ply.is_z_up(path) else FORMATS[kind].up


def blending_of(path: Path | str) -> str:
    """The space in which a file's splats are meant to be composited: "linear" for PLYs that Diorama made of
    such splats, "display" for all others, as splat viewers do it.

    Raises:
        DioramaError: E_PLY
    """
    return ply.blending_of(path) if format_of(path) == "ply" else "display"


def read_splats(
    path: Path | str, decode: Decode, left_out: Callable[[str], None] | None = None
) -> GaussianCloud:
    """Read splats of any format, in the axes of the file.

    Args:
        decode: makes [h, w, 4] uint8 of a WebP file's bytes.
        left_out: splats that cannot be shown are left out, and it is told how many; without it, they are
            refused.

    Raises:
        DioramaError: E_PLY for files that are something else, cut short, or hold impossible values.
    """
    kind = format_of(path)
    if kind == "ply":
        return ply.read_ply(path, left_out)
    reader = _READERS[kind][1]
    cloud = reader(path, decode) if reader is sog.read_sog else reader(path)
    if left_out is not None:
        cloud = ply.only_usable(cloud, left_out)
    ply.check(cloud, str(path))
    return cloud


def write_splats(
    path: Path | str,
    cloud: GaussianCloud,
    encode: Encode,
    *,
    axes: np.ndarray | None = None,
    kind: str = "",
    blending: str = "linear",
) -> None:
    """Write splats whose up is Z.

    Args:
        encode: makes a WebP file's bytes of [h, w, 4] uint8, without loss.
        axes: [3, 3] from the axes of the file to ours; without it those of the format, for a PLY ours.
        kind: a name in WRITTEN; empty to go by the file's name.
        blending: noted in a PLY whose Z is up; other files cannot say it.

    Raises:
        DioramaError: E_PLY if the cloud holds no splats, values that are not finite, or impossible sizes;
            E_REQUEST if such files are not written.
        OSError: if it cannot be written; an earlier file of that name is then still there.
    """
    kind = kind or kind_by_name(path)
    if axes is None:
        axes = UPS["Z" if kind == "ply" else FORMATS[kind].up]
    ply.check(cloud, str(path))
    cloud = turned(cloud, axes.T)
    writers: dict[str, Callable[[Path | str, GaussianCloud], None]] = {
        "ply": partial(ply.write_ply, z_up=np.array_equal(axes, UPS["Z"]), blending=blending),
        "compressed_ply": compressed_ply.write_compressed_ply,
        "spz": spz.write_spz,
        "sog": partial(sog.write_sog, encode=encode),
        "splat": splat.write_splat,
        "gltf": gltf.write_glb,
    }
    writers[kind](path, cloud)


def kind_by_name(path: Path | str) -> str:
    """The format that a file of that name is written in.

    Raises:
        DioramaError: E_REQUEST if there is none.
    """
    name = Path(path).name.lower()
    found = [kind for kind in WRITTEN if name.endswith(FORMATS[kind].suffix)]
    if not found:
        known = " ".join(FORMATS[kind].suffix for kind in WRITTEN)
        raise DioramaError(
            "E_REQUEST", f"{Path(path).name}: no such files of splats are written", f"Use {known}"
        )
    return max(found, key=lambda kind: len(FORMATS[kind].suffix))


def _count_ply(path: Path | str) -> int:
    header = ply.read_header(path)
    return believable(header.count, path, Path(path).stat().st_size - header.offset, header.dtype.itemsize)


_READERS: dict[str, tuple[Callable[..., int], Callable[..., GaussianCloud]]] = {
    "ply": (_count_ply, ply.read_ply),
    "compressed_ply": (compressed_ply.count_compressed_ply, compressed_ply.read_compressed_ply),
    "spz": (spz.count_spz, spz.read_spz),
    "sog": (sog.count_sog, sog.read_sog),
    "splat": (splat.count_splat, splat.read_splat),
    "ksplat": (ksplat.count_ksplat, ksplat.read_ksplat),
    "gltf": (gltf.count_glb, gltf.read_glb),
}
