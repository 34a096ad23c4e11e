"""Files of splats there and back through other programs, with the worst errors, and how long 3 M splats take.

    python -m tests.bench.splat_formats --splat-transform BIN --validator DIR --blender PYTHON [--millions 3]

BIN is of npm @playcanvas/splat-transform, DIR of npm gltf-validator, PYTHON one that has bpy 5.3; PyPI gsply
is used where it can be imported. What is not given is left out. Prints the tables of docs/formats.md.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backend.convert import decode, encode
from backend.shared import splat_formats
from backend.shared.ply import GaussianCloud, read_ply
from backend.shared.splat_transform import UPS, turned
from tests.shared.clouds import make_cloud
from tests.shared.test_splat_formats import DATA, TURNED, worst_errors

COUNT, DEGREE = 200, 3
SUFFIXES = {kind: splat_formats.FORMATS[kind].suffix for kind in splat_formats.WRITTEN}
IN_BLENDER = """
import sys, bpy, addon_utils, numpy as np
bpy.ops.wm.read_homefile(use_empty=True)
kind, path = sys.argv[1:3]
if kind == "ply":  # it keeps the axes of the file, the others make Z up
    bpy.ops.wm.ply_import(filepath=path, forward_axis="Y", up_axis="Z")
elif kind == "spz":
    bpy.ops.wm.spz_import(filepath=path)
else:
    addon_utils.enable("io_scene_gltf2")
    bpy.ops.import_scene.gltf(filepath=path)
(data,) = bpy.data.pointclouds
def column(name, key, width):
    out = np.empty((len(data.points), width), np.float32)
    data.attributes[name].data.foreach_get(key, out.ravel())
    return out
base = column("radiance:base", "vector", 4)
rest = [column(f"radiance:sh_{i}", "vector", 3) for i in range(15) if f"radiance:sh_{i}" in data.attributes]
np.savez(sys.argv[3], means=column("position", "vector", 3), quats=column("rotation", "value", 4),
         scales=column("scale", "vector", 3), opacities=base[:, 3], sh=np.stack([base[:, :3], *rest], axis=1))
"""


def row(kind: str, way: str, one: GaussianCloud, two: GaussianCloud) -> None:
    values = " | ".join(f"{error:.2g}" for error in worst_errors(one, two))
    print(f"| {splat_formats.FORMATS[kind].label} | {way} | {values} |", flush=True)


def try_row(kind: str, way: str, cloud: GaussianCloud, read: Callable[[], GaussianCloud]) -> None:
    try:
        row(kind, way, cloud, read())
    except Exception as error:  # a tool's own: it belongs in the table
        words = str(error).strip().splitlines() or [type(error).__name__]
        print(
            f"| {splat_formats.FORMATS[kind].label} | {way} | refused: {words[-1][:90]} | | | | | |",
            flush=True,
        )


def ours(path: Path) -> GaussianCloud:
    return turned(splat_formats.read_splats(path, decode), UPS[splat_formats.up_of(path)])


def of_gsply(found: Any, up: str) -> GaussianCloud:
    base = np.asarray(found.sh0).reshape(-1, 1, 3)
    higher = [] if found.shN is None else [np.asarray(found.shN).reshape(len(base), -1, 3)]
    quats = np.asarray(found.quats)
    return turned(
        GaussianCloud(
            means=np.asarray(found.means),
            quats=quats / np.linalg.norm(quats, axis=1, keepdims=True),
            scales=np.exp(np.asarray(found.scales)),
            opacities=1 / (1 + np.exp(-np.asarray(found.opacities))).ravel(),
            sh=np.concatenate([base, *higher], axis=1),
        ),
        UPS[up],
    )


def round_trips(folder: Path, args: argparse.Namespace) -> None:
    cloud = make_cloud(COUNT, DEGREE)
    print("| format | way | places | ln size | rotation ° | opacity | constant | higher |")
    print("|---|---|---|---|---|---|---|---|")
    files = {kind: folder / f"ours{suffix}" for kind, suffix in SUFFIXES.items()}
    for kind, path in files.items():
        splat_formats.write_splats(path, cloud, encode, kind=kind, axes=UPS["-Y"] if kind == "ply" else None)
        row(kind, "ours → ours", cloud, ours(path))
    if args.splat_transform:
        with_splat_transform(folder, args.splat_transform, cloud, files)
        ksplat(folder, args.splat_transform)
    with_gsply(folder, cloud, files)
    if args.blender:
        with_blender(folder, args.blender, cloud, files)
    if args.validator:
        script = (
            f"const v = require({str(Path(args.validator).resolve())!r});"
            f"v.validateBytes(new Uint8Array(require('fs').readFileSync({str(files['gltf'])!r})))"
            ".then(r => console.log(JSON.stringify(r.issues.messages.map(m => m.code))))"
        )
        done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
        print(f"\ngltf-validator: {dict(Counter(json.loads(done.stdout)))}")


def with_splat_transform(folder: Path, tool: str, cloud: GaussianCloud, files: dict[str, Path]) -> None:
    def convert(source: Path, target: Path, *more: str) -> Path:
        command = [tool, "-w", "-q", *more, str(source), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(done.stderr or done.stdout)
        return target

    for kind, path in files.items():
        back = folder / f"back_{kind}.ply"
        try_row(
            kind,
            "ours → splat-transform",
            cloud,
            lambda path=path, back=back: turned(read_ply(convert(path, back)), UPS["-Y"]),
        )
        if kind not in ("ply", "splat"):
            theirs = folder / f"theirs{SUFFIXES[kind]}"
            more = ("-g", "cpu") if kind == "sog" else ()
            turn = TURNED if kind == "gltf" else np.eye(3)  # it turns glTF to face the viewer
            try_row(
                kind,
                "splat-transform → ours",
                cloud,
                lambda theirs=theirs, more=more, turn=turn: turned(
                    ours(convert(files["ply"], theirs, *more)), turn
                ),
            )


def ksplat(folder: Path, tool: str) -> None:
    """The small files of mkkellogg's viewer, as another program reads them and as we do."""
    for path in sorted(DATA.glob("*.ksplat")):
        back = folder / "of_ksplat.ply"
        subprocess.run([tool, "-w", "-q", str(path), str(back)], capture_output=True, check=True)
        row("ksplat", f"{path.stem}: splat-transform ↔ ours", turned(read_ply(back), UPS["-Y"]), ours(path))


def with_gsply(folder: Path, cloud: GaussianCloud, files: dict[str, Path]) -> None:
    try:
        gsply: Any = importlib.import_module("gsply")
    except ImportError:
        return
    readers = {"ply": "plyread", "compressed_ply": "plyread", "spz": "read_spz", "sog": "sogread"}
    for kind, name in readers.items():
        up = splat_formats.up_of(files[kind])
        try_row(
            kind,
            "ours → gsply",
            cloud,
            lambda kind=kind, name=name, up=up: of_gsply(getattr(gsply, name)(str(files[kind])), up),
        )
    data = gsply.plyread(str(files["ply"]))
    gsply.plywrite(str(folder / "gsply.compressed.ply"), data, compressed=True)
    try_row("compressed_ply", "gsply → ours", cloud, lambda: ours(folder / "gsply.compressed.ply"))
    for version in (3, 4):
        path = folder / f"gsply_{version}.spz"
        gsply.write_spz(str(path), data, version=version)
        try_row(  # it keeps the axes of the PLY
            "spz",
            f"gsply → ours, version {version}",
            cloud,
            lambda path=path: turned(splat_formats.read_splats(path, decode), UPS["-Y"]),
        )


def y_and_z_swapped(cloud: GaussianCloud) -> GaussianCloud:
    """The same ellipsoids, with their own axes in the order in which Blender's glTF importer has them."""
    w, x, y, z = cloud.quats.T
    quats = np.stack([w - x, w + x, y + z, z - y], axis=1) * np.float32(0.5**0.5)  # turned by 90° about its x
    return replace(cloud, quats=quats, scales=cloud.scales[:, [0, 2, 1]])


def with_blender(folder: Path, python: str, cloud: GaussianCloud, files: dict[str, Path]) -> None:
    for kind in ("ply", "spz", "gltf"):
        found = folder / f"{kind}.npz"

        def read(kind: str = kind, found: Path = found) -> GaussianCloud:
            command = [python, "-c", IN_BLENDER, kind, str(files[kind]), str(found)]
            subprocess.run(command, capture_output=True, text=True, check=True)
            with np.load(found) as arrays:
                back = turned(GaussianCloud(**arrays), UPS["-Y" if kind == "ply" else "Z"])
            return y_and_z_swapped(back) if kind == "gltf" else back

        try_row(kind, "ours → Blender 5.3", cloud, read)


def times(folder: Path, count: int) -> None:
    cloud = make_cloud(count)
    print(f"\n| format, {count / 1e6:g} M splats, degree 0 | written, s | read, s | MB |\n|---|---|---|---|")
    for kind, suffix in SUFFIXES.items():
        path = folder / f"many{suffix}"
        start = time.process_time()
        splat_formats.write_splats(path, cloud, encode, kind=kind)
        written = time.process_time() - start
        start = time.process_time()
        splat_formats.read_splats(path, decode)
        read = time.process_time() - start
        size = path.stat().st_size / 1e6
        print(
            f"| {splat_formats.FORMATS[kind].label} | {written:.1f} | {read:.1f} | {size:.0f} |", flush=True
        )
        path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splat-transform")
    parser.add_argument("--validator")
    parser.add_argument("--blender")
    parser.add_argument("--millions", type=float, default=0.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        round_trips(Path(name), args)
        if args.millions:
            times(Path(name), int(args.millions * 1e6))


if __name__ == "__main__":
    main()
