"""The three worlds import in one direction only: each is loaded here with the others out of reach."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLENDER = {
    "bpy",
    "bpy_extras",
    "addon_utils",
    "mathutils",
    "gpu",
    "gpu_extras",
    "blf",
    "bl_math",
    "bmesh",
    "numpy",
}
BLENDER |= {"pxr", "imbuf", "bl_ui", "bl_operators"}


def import_with_blocked(modules: list[str], blocked: list[str]) -> subprocess.CompletedProcess[str]:
    """Imports the modules in a fresh Python in which the blocked ones cannot be found."""
    code = f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\nimport " + ", ".join(modules)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def modules_of(package: str) -> list[str]:
    """Every module of a package, by name."""
    folder = ROOT.joinpath(*package.split("."))
    paths = (path.relative_to(ROOT).with_suffix("") for path in folder.rglob("*.py"))
    names = (".".join(path.parts).removesuffix(".__init__") for path in paths)
    return sorted(name for name in names if not name.endswith("__main__"))


def test_blocking_really_blocks() -> None:
    assert "torch" in import_with_blocked(["torch"], ["torch"]).stderr


def test_backend_needs_no_blender() -> None:
    result = import_with_blocked(modules_of("backend"), ["bpy", "mathutils", "blender_addon"])
    assert result.returncode == 0, result.stderr


def test_kernels_know_neither() -> None:
    result = import_with_blocked(modules_of("kernels"), ["bpy", "mathutils", "blender_addon", "backend"])
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "module",
    ["shared.protocol", "shared.request", "shared.progress", "server", "job", "install.command"],
)
def test_contract_needs_only_the_standard_library(module: str) -> None:
    blocked = ["bpy", "torch", "numpy", "PIL", "tqdm", "diffusers", "transformers", "safetensors", "kernels"]
    blocked += ["huggingface_hub", "platformdirs"]
    result = import_with_blocked([f"backend.{module}"], blocked)
    assert result.returncode == 0, result.stderr


def test_what_blender_loads_too_needs_only_numpy() -> None:
    blocked = ["bpy", "torch", "PIL", "tqdm", "diffusers", "transformers", "safetensors", "kernels"]
    result = import_with_blocked(modules_of("backend.shared"), blocked)
    assert result.returncode == 0, result.stderr


def imports_of(path: Path, modules: set[str]) -> Iterator[str]:
    """The files of the backend that a file imports, wherever in the file: `package.module` names."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - node.level + 1]
            base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in modules else base


def arrows(package: str) -> dict[str, set[str]]:
    """Which file of a package imports which others."""
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in (ROOT / package).rglob("*.py")}
    return {name: set(imports_of(path, set(names))) & set(names) for name, path in names.items()}


@pytest.mark.parametrize("package", ["backend", "kernels", "blender_addon"])
def test_no_files_import_each_other_in_a_circle(package: str) -> None:
    TopologicalSorter(arrows(package)).prepare()  # raises CycleError, which names the circle


def test_nothing_but_the_command_line_uses_the_starters_room() -> None:
    users = {
        name
        for name, imported in arrows("backend").items()
        if any(module.startswith("backend.starter") for module in imported)
    }
    assert {name for name in users if not name.startswith("backend.starter.")} == {"backend.__main__"}


@pytest.mark.parametrize("path", sorted((ROOT / "blender_addon").rglob("*.py")), ids=lambda path: path.name)
def test_addon_imports_nothing_of_the_backend_but_what_is_shared(path: Path) -> None:
    """The add-on cannot be loaded without Blender, so its imports are read; tests/blender loads it in bpy."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert alias.name.split(".")[0] in sys.stdlib_module_names | BLENDER, alias.name
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".")
            if node.level == 0:
                assert parts[0] in sys.stdlib_module_names | BLENDER, node.module
            elif parts[0] == "backend":
                assert parts[1:2] == ["shared"], f"{path.name} loads {node.module}, not backend.shared"
            else:
                assert parts[0] != "kernels"
