"""Builds the extension's zip: `python build_addon.py` with bpy installed, or with `--blender PATH`.

The zip holds the add-on at its root with `backend/` and `kernels/` beside it, no wheels and no binaries, so
one file serves every Blender since 4.2 on every system. The same tree gives the same bytes.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent
SHIPPED = {".py", ".toml", ".json", ".txt", ".md", ".safetensors"}  # so no cache of any kind gets in
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time a zip can hold


def main() -> int:
    """Builds and validates; prints the zip's path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the zip")
    parser.add_argument(
        "--repo", type=Path, help="also copy it here, and write index.json for Blender's updates"
    )
    parser.add_argument("--blender", help="use this Blender's extension tool instead of the one in bpy")
    parser.add_argument(
        "--requirements", nargs="+", metavar="GROUP", help="only print the packages: backend, host, test …"
    )
    args = parser.parse_args()
    if args.requirements:
        print("\n".join(requirements(args.requirements)))
        return 0
    tool = extension_tool(args.blender)
    path = build(args.out)
    if subprocess.run([*tool, "validate", str(path)], check=False).returncode:
        path.unlink()
        return 1
    if args.repo:
        args.repo.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, args.repo)
        subprocess.run([*tool, "server-generate", f"--repo-dir={args.repo}"], check=True)
    print(path)
    return 0


def build(out: Path) -> Path:
    """Writes `diorama.zip` into `out`; its version is in the manifest inside."""
    path = out / "diorama.zip"
    contents = {file.relative_to(ROOT / "blender_addon").as_posix(): file for file in _files("blender_addon")}
    for folder in ("backend", "kernels"):
        contents |= {file.relative_to(ROOT).as_posix(): file for file in _files(folder)}
    contents["LICENSE"] = ROOT / "LICENSE"
    with tempfile.TemporaryDirectory() as folder:
        # one list of packages, kept in pyproject.toml; the installed add-on reads this copy
        listed = Path(folder) / "requirements.txt"
        listed.write_text("\n".join(requirements(["backend"])) + "\n", "utf-8")
        contents["backend/requirements.txt"] = listed
        out.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, file in sorted(contents.items()):
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, file.read_bytes())
    return path


def requirements(groups: list[str]) -> list[str]:
    """The packages that pyproject.toml pins for the backend, or for one of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pinned = {"backend": project["dependencies"], **project["optional-dependencies"]}
    return [line for group in groups for line in pinned[group]]


def extension_tool(blender: str | None) -> list[str]:
    """The command that runs Blender's own extension tool."""
    if blender:
        return [blender, "--command", "extension"]
    bpy = importlib.util.find_spec("bpy")  # found, not imported: that would start Blender
    found = (
        sorted(Path(bpy.origin).parent.glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
        if bpy and bpy.origin
        else []
    )
    if not found:
        sys.exit("This Python has no bpy. Install bpy, or give --blender PATH.")
    return [sys.executable, str(found[-1])]


def _files(folder: str) -> list[Path]:
    return [path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix in SHIPPED]


if __name__ == "__main__":
    sys.exit(main())
