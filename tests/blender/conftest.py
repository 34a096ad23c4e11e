"""Installs the built zip into a real Blender (bpy) once; every test begins with Blender's empty scene."""

# ruff: noqa: E402 (the environment comes before bpy)

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]

# Before bpy is imported anywhere: nothing of the developer's own Blender is read or written.
os.environ["BLENDER_USER_RESOURCES"] = tempfile.mkdtemp(prefix="diorama-blender-")
# Results and history are kept outside of that.
os.environ["XDG_DATA_HOME"] = os.environ["LOCALAPPDATA"] = tempfile.mkdtemp(prefix="diorama-data-")

import bpy

import build_addon
from tests.shared.clouds import make_cloud

RESOURCES = Path(os.environ["BLENDER_USER_RESOURCES"])


@pytest.fixture(scope="session")
def zip_path() -> Path:
    """The built zip."""
    return build_addon.build(RESOURCES / "dist")


@pytest.fixture(scope="session")
def extension(zip_path: Path) -> Iterator[ModuleType]:
    """The installed and enabled add-on's module."""
    bpy.ops.extensions.package_install_files(
        filepath=str(zip_path), repo="user_default", enable_on_install=True
    )
    yield importlib.import_module("bl_ext.user_default.diorama")
    bpy.ops.preferences.addon_disable(module="bl_ext.user_default.diorama")
    shutil.rmtree(RESOURCES, ignore_errors=True)


@pytest.fixture(autouse=True)
def empty_scene() -> None:
    """A scene with nothing in it."""
    bpy.ops.wm.read_homefile(use_empty=True)


@pytest.fixture(scope="session")
def home_with_nodes(extension: ModuleType) -> Path:
    """A start-up file that holds the node groups and materials of splats."""
    bpy.ops.wm.read_homefile(use_empty=True)
    extension.scene.sequences.sequence_object("walk", [make_cloud(1)] * 2, "linear", 1)
    for item in (*bpy.data.node_groups, *bpy.data.materials):
        item.use_fake_user = True
    for kind in (bpy.data.objects, bpy.data.collections, bpy.data.meshes):
        bpy.data.batch_remove(list(kind))
    path = RESOURCES / "nodes.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)
    return path


@pytest.fixture
def nodes(home_with_nodes: Path) -> None:
    """A scene with nothing in it, in a file that holds the nodes, which take seconds to build."""
    bpy.ops.wm.read_homefile(filepath=str(home_with_nodes))
    assert not bpy.data.objects


@pytest.fixture(scope="session")
def backend_python() -> Path:
    """The Python of the backend's environment."""
    path = Path(os.environ.get("DIORAMA_BACKEND_PYTHON", ROOT / ".venv-backend" / "bin" / "python"))
    if not path.exists():
        pytest.fail(f"no backend environment at {path}: run `make .venv-backend`")
    return path


@pytest.fixture
def diorama(extension: ModuleType, backend_python: Path) -> Iterator[ModuleType]:
    """The add-on with a backend chosen in its preferences."""

    # Looked up each time: Blender frees the old preferences when a test reloads them.
    def choose() -> None:
        bpy.context.preferences.addons[extension.__name__].preferences.backend_python = str(backend_python)

    choose()
    yield extension
    choose()


@pytest.fixture(scope="session")
def dataset_script(zip_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only the renderer's own files, out of the zip: no backend, no add-on."""
    folder = tmp_path_factory.mktemp("alone")
    with zipfile.ZipFile(zip_path) as archive:
        names = [name for name in archive.namelist() if name.startswith(("render_", "dataset/"))]
        archive.extractall(folder, names)
    return folder / "render_dataset.py"


@pytest.fixture
def render_dataset(dataset_script: Path) -> Callable[..., int]:
    """Runs it in this process, which saves starting Blender."""
    spec = importlib.util.spec_from_file_location("render_dataset", dataset_script)
    assert spec and spec.loader
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: module.run([str(argument) for argument in arguments])
