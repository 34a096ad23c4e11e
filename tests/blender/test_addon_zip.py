"""The zip: what is in it, and that the same tree gives the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import build_addon

ROOT = Path(__file__).parents[2]


def test_holds_the_addon_the_backend_the_weights_and_nothing_else(zip_path: Path) -> None:
    names = zipfile.ZipFile(zip_path).namelist()
    assert {
        "__init__.py",
        "blender_manifest.toml",
        "LICENSE",
        "backend/__main__.py",
        "kernels/__init__.py",
    } <= {*names}
    assert any(
        name.startswith("backend/starter/weights/") and name.endswith(".safetensors") for name in names
    )
    assert all(Path(name).suffix in build_addon.SHIPPED or name == "LICENSE" for name in names)
    assert not [name for name in names if "__pycache__" in name or "test" in name.split("/")]
    packages = zipfile.ZipFile(zip_path).read("backend/requirements.txt").decode().split()
    pinned = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    assert packages == pinned
    assert packages[0].startswith("torch==")


def test_same_tree_same_bytes(zip_path: Path, tmp_path: Path) -> None:
    assert build_addon.build(tmp_path).read_bytes() == zip_path.read_bytes()


def test_repository_index_names_the_zip(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "build_addon.py"),
        "--out",
        str(tmp_path),
        "--repo",
        str(tmp_path / "repo"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    index = json.loads((tmp_path / "repo" / "index.json").read_text("utf-8"))
    assert [(entry["id"], entry["archive_url"]) for entry in index["data"]] == [("diorama", "./diorama.zip")]
