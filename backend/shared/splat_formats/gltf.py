"""glTF with KHR_gaussian_splatting, as one GLB file: splats are points with rotations, sizes and harmonics.

Facts: the extension's README (Khronos), and the glTF 2.0 specification (sections 3.6, 4.4). Nothing is lost.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..output_folder import whole_file
from ..ply import GaussianCloud
from ..protocol import DioramaError
from ..splat_transform import rotations, transformed
from .quantised import believable, colour_bytes, damaged, shared_degree, to_bytes, unit

EXTENSION = "KHR_gaussian_splatting"
_KINDS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
_JSON, _BIN = 0x4E4F534A, 0x004E4942
_MAX_JSON = 64 << 20
_FAULTS = (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError, struct.error)


def count_glb(path: Path | str) -> int:
    """How many splats a file says it holds, in all of its places.

    Raises:
        DioramaError: E_PLY
    """
    try:
        gltf, binary = _opened(path)
        counts = [
            int(gltf["accessors"][primitive["attributes"]["POSITION"]]["count"])
            for primitive, _ in _placed(gltf)
        ]
    except _FAULTS as error:
        raise damaged(path, f"it is no glTF that can be read: {error!r}") from error
    if not counts:
        raise _no_splats(path, gltf)
    return believable(sum(counts), path, len(binary) * len(counts))


def read_glb(path: Path | str) -> GaussianCloud:
    """Read all splats of a GLB file, where its nodes place them; Y is up.

    Raises:
        DioramaError: E_PLY
    """
    count_glb(path)
    try:
        gltf, binary = _opened(path)
        clouds = [
            transformed(_cloud(gltf, binary, primitive, path), place) for primitive, place in _placed(gltf)
        ]
    except _FAULTS as error:
        raise damaged(path, f"it is no glTF that can be read: {error!r}") from error
    harmonics = max(cloud.sh.shape[1] for cloud in clouds)
    padded = [np.pad(cloud.sh, ((0, 0), (0, harmonics - cloud.sh.shape[1]), (0, 0))) for cloud in clouds]
    return GaussianCloud(
        **{
            name: np.concatenate([getattr(cloud, name) for cloud in clouds])
            for name in ("means", "quats", "scales", "opacities")
        },
        sh=np.concatenate(padded),
    )


def write_glb(path: Path | str, cloud: GaussianCloud) -> None:
    """Write a GLB file; the cloud's Y is up.

    Raises:
        OSError: if it cannot be written; an earlier file of that name is then still there.
    """
    rgba = np.concatenate([colour_bytes(cloud.sh[:, 0]), to_bytes(cloud.opacities)[:, None]], axis=1)
    columns: list[tuple[str, np.ndarray]] = [
        ("POSITION", cloud.means),
        ("COLOR_0", rgba),  # what viewers show that know points only
        (f"{EXTENSION}:ROTATION", np.roll(cloud.quats, -1, axis=1)),
        (f"{EXTENSION}:SCALE", cloud.scales),
        (f"{EXTENSION}:OPACITY", cloud.opacities[:, None]),
    ]
    for degree in range(cloud.sh_degree + 1):
        for i in range(2 * degree + 1):
            columns.append((f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{i}", cloud.sh[:, degree**2 + i]))
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    offset = 0
    for name, values in columns:
        size = 4 * values.shape[1] if values.dtype != np.uint8 else values.shape[1]
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": size * len(cloud), "target": 34962})
        accessor = {
            "bufferView": len(accessors),
            "componentType": 5121 if values.dtype == np.uint8 else 5126,
            "count": len(cloud),
            "type": {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[values.shape[1]],
        }
        if name == "POSITION":
            accessor |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        if name == "COLOR_0":
            accessor["normalized"] = True
        accessors.append(accessor)
        offset += size * len(cloud)  # whole floats, or four bytes: always in step with 4
    splatting = {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
        "sortingMethod": "cameraDistance",
        "projection": "perspective",
    }
    primitive = {
        "attributes": {name: i for i, (name, _) in enumerate(columns)},
        "mode": 0,
        "extensions": {EXTENSION: splatting},
    }
    gltf = {
        "asset": {"version": "2.0", "generator": "Diorama"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "buffers": [{"byteLength": offset}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(gltf, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    with whole_file(path) as partial, open(partial, "wb") as file:
        file.write(struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + offset, len(text), _JSON))
        file.write(text)
        file.write(struct.pack("<II", offset, _BIN))
        for _, values in columns:
            file.write(np.ascontiguousarray(values, values.dtype if values.dtype == np.uint8 else "<f4").data)


def _opened(path: Path | str) -> tuple[dict[str, Any], np.ndarray]:
    """The description and the binary chunk."""
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        head = file.read(20)
        if len(head) < 20:
            raise damaged(path, "it is cut short")
        _, version, length, text_length, kind = struct.unpack("<4sIIII", head)
        if version != 2 or kind != _JSON or text_length > min(size, _MAX_JSON):
            raise damaged(path, "it is no GLB of version 2")
        if length > size:
            raise damaged(path, f"it is cut short: {length} bytes are needed, the file has {size}")
        gltf = json.loads(file.read(text_length))
        rest = file.read(8)
        binary = np.zeros(0, np.uint8)
        if len(rest) == 8:
            binary_length, kind = struct.unpack("<II", rest)
            if kind == _BIN and binary_length:
                if file.tell() + binary_length > size:
                    raise damaged(path, "it is cut short within its data")
                binary = np.memmap(path, np.uint8, "r", file.tell(), (binary_length,))
    return gltf, binary


def _placed(gltf: dict[str, Any]) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Every primitive of splats in the scene, with where it is: [4, 4]."""
    scenes = gltf.get("scenes") or [{"nodes": list(range(len(gltf.get("nodes", []))))}]
    todo = [(node, np.eye(4), 0) for node in scenes[gltf.get("scene", 0)].get("nodes", [])]
    while todo:
        index, above, depth = todo.pop(0)
        if depth > len(gltf["nodes"]):
            raise ValueError("its nodes hold themselves")
        node = gltf["nodes"][index]
        place = above @ _matrix(node)
        todo += [(child, place, depth + 1) for child in node.get("children", [])]
        if "mesh" in node:
            for primitive in gltf["meshes"][node["mesh"]]["primitives"]:
                if EXTENSION in primitive.get("extensions", {}):
                    yield primitive, place


def _matrix(node: dict[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    matrix[:3, :3] = rotations(unit(np.array([[w, x, y, z]], np.float64)))[0] * node.get("scale", (1, 1, 1))
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix


def _cloud(
    gltf: dict[str, Any], binary: np.ndarray, primitive: dict[str, Any], path: Path | str
) -> GaussianCloud:
    """The splats of one primitive, in its own space."""
    extension = primitive["extensions"][EXTENSION]
    if extension.get("extensions"):
        packed = ", ".join(extension["extensions"])
        raise DioramaError(
            "E_PLY", f"{path}: its splats are packed by {packed}", "Export it without compression."
        )
    if extension.get("colorSpace", "srgb_rec709_display") != "srgb_rec709_display":
        raise DioramaError(
            "E_PLY",
            f"{path}: its colours are in {extension['colorSpace']}",
            "Export it with the colour space srgb_rec709_display.",
        )
    attributes = primitive["attributes"]

    def column(name: str) -> np.ndarray:
        return _values(gltf, binary, attributes[name])

    if f"{EXTENSION}:SH_DEGREE_4_COEF_0" in attributes:
        shared_degree(4, path)
    sh = []
    for degree in range(4):
        names = [f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{i}" for i in range(2 * degree + 1)]
        if not all(name in attributes for name in names):
            break
        sh += [column(name) for name in names]
    if not sh:
        raise damaged(path, "its splats have no colours")
    return GaussianCloud(
        means=column("POSITION"),
        quats=unit(np.roll(column(f"{EXTENSION}:ROTATION"), 1, axis=1)),
        scales=np.maximum(column(f"{EXTENSION}:SCALE"), 1e-30),
        opacities=column(f"{EXTENSION}:OPACITY")[:, 0],
        sh=np.stack(sh, axis=1),
    )


def _values(gltf: dict[str, Any], binary: np.ndarray, index: int) -> np.ndarray:
    """An accessor's values [N, 1 | 3 | 4] float32; whole numbers are those of their range."""
    accessor = gltf["accessors"][index]
    view = gltf["bufferViews"][accessor["bufferView"]]
    if view.get("buffer", 0) or "sparse" in accessor or "uri" in gltf["buffers"][0]:
        raise ValueError("its data is not in the file itself")
    dtype = np.dtype((_KINDS[accessor["componentType"]], (_WIDTHS[accessor["type"]],)))
    count, stride = accessor["count"], view.get("byteStride") or dtype.itemsize
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    end = start + stride * (count - 1) + dtype.itemsize
    if count < 1 or start < 0 or stride < dtype.itemsize or end > len(binary):
        raise ValueError("its accessors reach beyond its data")
    base = dtype.base
    values = np.ndarray((count, dtype.shape[0]), base, binary.data, start, (stride, base.itemsize))
    if base.kind == "f":
        return values.astype(np.float32)
    if not accessor.get("normalized"):
        raise ValueError("whole numbers are not values of splats")
    return np.maximum(values / np.float32(np.iinfo(base).max), -1).astype(np.float32)


def _no_splats(path: Path | str, gltf: dict[str, Any]) -> DioramaError:
    if gltf.get("meshes"):
        return DioramaError(
            "E_PLY", f"{path} is a mesh, not Gaussian splats", "Use File > Import > glTF 2.0 (.glb/.gltf)."
        )
    return DioramaError("E_PLY", f"{path} holds no splats", "Choose a file with at least one splat.")
