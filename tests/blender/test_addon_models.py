"""The models in the preferences and the panel: what is drawn, what the buttons do, and when they cannot."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import bpy
import pytest

import build_addon
from backend.shared.manifests import seal
from tests.blender.layout_helper import Layout, draw


def preferences(diorama: ModuleType) -> bpy.types.AddonPreferences:
    return bpy.context.preferences.addons[diorama.__name__].preferences


def drawn(diorama: ModuleType) -> str:
    layout = Layout()
    preferences = SimpleNamespace(layout=layout, remote_host="")
    diorama.ui.preferences.DIORAMA_AP_preferences.draw(preferences, bpy.context)
    return layout.text


@pytest.fixture
def models(diorama: ModuleType, tmp_path: Path) -> Iterator[Path]:
    """The models folder that is chosen in the preferences, empty."""
    preferences(diorama).models_folder = str(tmp_path / "models")
    yield tmp_path / "models"
    preferences(diorama).models_folder = ""


def install_small(diorama: ModuleType, models: Path) -> Path:
    """An installed model whose files are small."""
    folder = models / "mvdream-lgm"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "config.json").write_text('{"small": true}')
    seal(folder, "mvdream-lgm")
    bpy.ops.diorama.model_refresh()
    return folder


def test_every_model_is_drawn_with_licence_size_and_state(diorama: ModuleType, models: Path) -> None:
    assert "t2v_00333000.pth" not in drawn(diorama)  # folded
    bpy.context.window_manager.diorama_by_hand = True
    text = drawn(diorama)
    for words in (
        "MVDream + LGM: not installed",
        "Licence: MVDream: OpenRAIL",
        "Files: 3.4 GB. GPU memory: about 4.4 GiB, 2.2 GiB with idle networks in main memory (estimated).",
        "ashawkey/mvdream-sd2.1-diffusers",
        "wm.url_open",
        "diorama.model_download",
        "VideoMV, from text: not installed",
        "Not for commercial use.",
        "Fetch: t2v_00333000.pth",
        "diorama.model_files",
    ):
        assert words in text
    assert str(models / "downloads" / "videomv") in text.replace(" ", "")
    assert "diorama.model_remove" not in text
    install_small(diorama, models)
    text = drawn(diorama)
    assert "MVDream + LGM: installed" in text
    assert "diorama.model_verify" in text
    assert "diorama.model_remove" in text


def test_drawing_reads_no_disk(diorama: ModuleType, models: Path) -> None:
    folder = install_small(diorama, models)
    (folder / "manifest.json").unlink()
    assert "MVDream + LGM: installed" in drawn(diorama)  # as it was when it last looked
    bpy.ops.diorama.model_refresh()
    assert "MVDream + LGM: not installed" in drawn(diorama)


def test_download_needs_online_access_and_says_so(diorama: ModuleType, models: Path) -> None:
    assert not bpy.app.online_access
    with pytest.raises(RuntimeError, match="Allow Online Access"):
        bpy.ops.diorama.model_download(model="mvdream-lgm")


def test_buttons_need_a_backend(diorama: ModuleType, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diorama.host.get(), "environment", "missing")
    with pytest.raises(RuntimeError, match="press Install Backend"):
        bpy.ops.diorama.model_verify(model="mvdream-lgm")


def test_cancel_without_work_says_so(diorama: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="No model is being installed"):
        bpy.ops.diorama.model_cancel()


def test_verify_and_remove_through_the_backend(diorama: ModuleType, models: Path) -> None:
    folder = install_small(diorama, models)
    note = folder / "note.txt"
    note.write_text("mine")
    assert bpy.ops.diorama.model_verify(model="mvdream-lgm") == {"FINISHED"}
    assert "All 1 files are as they were installed" in drawn(diorama)
    (folder / "unet" / "config.json").write_text('{"small": TRUE}')
    with pytest.raises(RuntimeError, match=r"E_WEIGHTS_CORRUPT.*unet/config.json was changed"):
        bpy.ops.diorama.model_verify(model="mvdream-lgm")
    assert "was changed" in drawn(diorama)
    assert bpy.ops.diorama.model_remove(model="mvdream-lgm") == {"FINISHED"}
    assert [path for path in models.rglob("*") if path.is_file()] == [note]
    assert not diorama.host.get().models["mvdream-lgm"].installed


def test_failed_installation_says_what_to_fetch(diorama: ModuleType, models: Path) -> None:
    with pytest.raises(RuntimeError, match=r"E_WEIGHTS_MISSING.*t2v_00333000.pth"):
        bpy.ops.diorama.model_install(model="videomv-t2v")
    assert "Files of videomv-t2v are missing" in drawn(diorama)


def test_model_is_chosen_in_the_panel_once_there_are_several(diorama: ModuleType, models: Path) -> None:
    def panel() -> list[str]:
        return draw(diorama.ui.panels.DIORAMA_PT_generate)

    settings = bpy.context.scene.diorama
    assert settings.model == "starter"
    assert "model" not in panel()
    with pytest.raises(TypeError):
        settings.model = "mvdream-lgm"
    folder = install_small(diorama, models)
    assert "model" in panel()
    settings.model = "mvdream-lgm"
    assert settings.model == "mvdream-lgm"
    (folder / "manifest.json").unlink()
    bpy.ops.diorama.model_refresh()
    assert settings.model == ""  # not another one


def test_model_of_a_request_that_is_not_installed_is_an_error_in_words(
    diorama: ModuleType, models: Path, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match=r"E_WEIGHTS_MISSING.*Models → mvdream-lgm → Install"):
        bpy.ops.diorama.generate(
            prompt="a red mushroom", model="mvdream-lgm", directory=str(tmp_path / "asset")
        )


def test_hanging_backend_is_ended_after_a_cancel(
    diorama: ModuleType, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    hello = '{"jsonrpc":"2.0","method":"hello","params":{"protocol":[1,0]}}'
    program.write_text(f"#!/bin/sh\necho '{hello}'\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(diorama.client.model_work, "GRACE_S", 0.2)
    launch = diorama.backend.shared.client.Launch(program, build_addon.ROOT, tmp_path / "log")
    work = diorama.client.model_work.ModelWork("models.verify", "mvdream-lgm", launch)
    process = work._client._process
    work.pump(1.0)
    assert work.running
    work.cancel()
    while work.running:
        work.pump(0.05)
    assert work.error.code == "E_CANCELLED"
    assert process.poll() is not None


def test_backend_is_told_the_models_folder(diorama: ModuleType, models: Path, tmp_path: Path) -> None:
    launch = diorama.host.get()._launch()
    assert launch.models == models
    assert diorama.backend.shared.client._environment(launch)["DIORAMA_MODELS"] == str(models)
    preferences(diorama).models_folder = ""
    default = diorama.folders.models_folder()
    assert default.parts[-2:] == ("diorama", "models")
    assert sys.platform == "win32" or default.is_absolute()


def test_folders_of_the_environment_are_those_of_the_command_line_unless_others_are_chosen(
    diorama: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIORAMA_MODELS", str(tmp_path / "farm"))
    pipeline = tmp_path / "pipeline"
    pipeline.mkdir()
    (pipeline / "model_index.json").write_text("{}")
    host = diorama.host.get()
    bpy.ops.diorama.model_refresh()
    assert host.models["mvdream-lgm"].folder == tmp_path / "farm/mvdream-lgm" and not host.known.makes_images
    preferences(diorama).text_to_image = str(pipeline)
    launch = host._launch()
    assert host.known.makes_images and launch.models == tmp_path / "farm"
    told = diorama.backend.shared.client._environment(launch)
    assert told["DIORAMA_MODELS"] == str(tmp_path / "farm")
    assert told["DIORAMA_TEXT_TO_IMAGE"] == str(pipeline)
    preferences(diorama).text_to_image = ""
    monkeypatch.delenv("DIORAMA_MODELS")
    bpy.ops.diorama.model_refresh()


def test_disabling_ends_what_runs(diorama: ModuleType, models: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    host = diorama.host.get()
    launch = diorama.backend.shared.client.Launch(program, build_addon.ROOT, tmp_path / "log")
    host.model_work = diorama.client.model_work.ModelWork("models.verify", "mvdream-lgm", launch)
    process = host.model_work._client._process
    bpy.ops.preferences.addon_disable(module=diorama.__name__)
    deadline = time.monotonic() + 5
    while process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    bpy.ops.preferences.addon_enable(module=diorama.__name__)


def test_machine_is_checked_and_the_text_can_be_copied(
    diorama: ModuleType, models: Path, capsys: Any
) -> None:
    bpy.ops.diorama.check_machine()
    assert "splats are drawn on" in capsys.readouterr().out
    assert "mvdream-lgm not installed" in drawn(diorama)
    bpy.ops.diorama.copy_check()
    text = diorama.ui.check_operators.found_text()
    assert "torch" in text and str(models) not in text
