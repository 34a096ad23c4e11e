"""Enabling and disabling the installed extension, and what its buttons say when they cannot be pressed."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import bpy
import pytest

import build_addon
from tests.blender.layout_helper import Layout, draw


def trace() -> dict[str, set[str]]:
    """Everything in Blender that an add-on could leave behind."""
    return {
        "types": set(dir(bpy.types)),
        "scene": set(dir(bpy.types.Scene)),
        "operators": set(dir(bpy.ops.diorama)),
        "import menu": {str(draw) for draw in bpy.types.TOPBAR_MT_file_import._dyn_ui_initialize()},
        "export menu": {str(draw) for draw in bpy.types.TOPBAR_MT_file_export._dyn_ui_initialize()},
        "handlers": {
            f"{name}: {handler}"
            for name in dir(bpy.app.handlers)
            if isinstance(handlers := getattr(bpy.app.handlers, name), list)
            for handler in handlers
        },
        "threads": {thread.name for thread in threading.enumerate()},
        "preferences": set(bpy.context.preferences.addons.keys()),
    }


def test_blenders_own_tool_accepts_the_zip(zip_path: Path) -> None:
    tool = build_addon.extension_tool(None)
    result = subprocess.run([*tool, "validate", str(zip_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_register_unregister_register_leaves_no_trace(extension: ModuleType) -> None:
    module = extension.__name__
    enabled = trace()
    assert "DIORAMA_OT_generate" in enabled["types"]
    bpy.ops.preferences.addon_disable(module=module)
    disabled = trace()
    assert not {name for names in disabled.values() for name in names if "diorama" in name.lower()}
    bpy.ops.preferences.addon_enable(module=module)
    assert trace().keys() == enabled.keys()
    assert trace()["types"] == enabled["types"]
    bpy.ops.preferences.addon_disable(module=module)
    assert trace() == disabled
    bpy.ops.preferences.addon_enable(module=module)


def test_menu_of_presets_is_not_broken_before_the_first(extension: ModuleType) -> None:
    menu = extension.ui.presets.DIORAMA_PT_presets
    layout = Layout()
    stand_in = SimpleNamespace(layout=layout, bl_idname=menu.__name__)
    menu.path_menu(stand_in, [], "script.execute_preset", add_operator="diorama.preset_add")
    assert layout.drawn[0] == "Keep these settings as:"
    assert "diorama.preset_add" in layout.drawn and "Missing" not in layout.text


def test_disabling_ends_the_backend(diorama: ModuleType, tmp_path: Path) -> None:
    session = diorama.host.get().session
    request = diorama.host.GenerationRequest("a red mushroom")
    session.submit(request, tmp_path / "asset")
    while not session.client.running:
        session.pump()
    process = session.client._process
    assert process.poll() is None
    bpy.ops.preferences.addon_disable(module=diorama.__name__)
    assert process.poll() is not None
    bpy.ops.preferences.addon_enable(module=diorama.__name__)
    last = diorama.host.get().session.jobs[-1]
    assert (last.state, last.error["code"]) == ("interrupted", "E_CANCELLED")
    assert diorama.host.get().session.interrupted == [last]
    assert "diorama.job_again" in draw(diorama.ui.panels.DIORAMA_PT_generate)
    bpy.ops.diorama.dismiss(job=last.id)
    assert not diorama.host.get().session.interrupted


def test_loads_in_a_python_without_torch(extension: ModuleType) -> None:
    with pytest.raises(ImportError):
        import torch  # noqa: F401
    assert extension.host.get()


def test_generate_without_a_backend_says_what_to_press(
    extension: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    bpy.context.preferences.addons[extension.__name__].preferences.backend_python = ""
    assert extension.host.get().environment == "missing"
    with pytest.raises(RuntimeError, match="press Install Backend"):
        bpy.ops.diorama.generate(prompt="a red mushroom")


def test_install_needs_online_access(extension: ModuleType) -> None:
    assert not bpy.app.online_access
    with pytest.raises(RuntimeError, match="Allow Online Access"):
        bpy.ops.diorama.install_backend()


def test_cancel_without_a_job_says_so(diorama: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="Nothing is being generated"):
        bpy.ops.diorama.cancel()
