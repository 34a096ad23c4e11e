"""The preference Backend on Another Computer: Blender's own Python, a real ssh and a real sshd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import pytest

from backend.shared.catalogue import MODELS
from backend.shared.manifests import seal
from tests.blender.layout_helper import Layout
from tests.sshd import HERE, computer

pytestmark = pytest.mark.skipif(not HERE, reason="there is no sshd here")


@pytest.fixture
def there(diorama: ModuleType, backend_python: Path, tmp_path: Path) -> Iterator[Any]:
    preferences = diorama.folders.get_preferences()
    host = diorama.host.get()
    python, host.python = host.python, ""
    preferences.backend_python, preferences.remote_python = "", str(backend_python)
    try:
        with computer(tmp_path):
            yield preferences
    finally:
        host.session.client.close()
        preferences.remote_host, preferences.backend_python = "", str(backend_python)
        host.python = python
        host.check_models()


def drawn(diorama: ModuleType) -> str:
    layout = Layout()
    diorama.ui.model_list.draw_models(layout)
    return layout.text


def test_the_panel_s_job_is_made_there_and_imported_here(
    diorama: ModuleType, there: Any, tmp_path: Path
) -> None:
    there.remote_host = "computer"
    assert diorama.host.get().environment == "chosen"
    bpy.ops.diorama.generate(prompt="a red mushroom", steps=2, views=2, directory=str(tmp_path / "asset"))
    assert (tmp_path / "asset/asset.json").is_file()
    assert any("prompt" in collection for collection in bpy.data.collections)


def test_the_preferences_list_the_models_of_that_computer(
    diorama: ModuleType, there: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "models/mvdream-lgm"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text('{"num_views": 4}')
    seal(folder, "mvdream-lgm")
    there.remote_host = "computer"
    host = diorama.host.get()
    assert host.usable_models == list(MODELS) and "Ask What Is Installed There" in drawn(diorama)
    bpy.ops.diorama.model_refresh()
    assert host.usable_models == ["starter", "mvdream-lgm"]
    assert host.known.facts["mvdream-lgm"] == {"num_views": 4} and host.known.words["starter"]
    text = drawn(diorama)
    assert "MVDream + LGM: installed" in text and "diorama.model_verify" in text
    assert "TripoSplat: not installed" in text and "diorama.model_files" not in text and "Here:" not in text
    there.remote_host = "closed"
    with pytest.raises(RuntimeError, match="cannot reach closed"):
        bpy.ops.diorama.model_refresh()
    assert "Cannot reach closed" in drawn(diorama)


def test_a_computer_that_cannot_be_reached_is_an_error_in_words(
    diorama: ModuleType, there: Any, tmp_path: Path
) -> None:
    there.remote_host = "closed"
    with pytest.raises(RuntimeError, match="cannot reach closed"):
        bpy.ops.diorama.generate(prompt="a red mushroom", directory=str(tmp_path / "asset"))
    assert not (tmp_path / "asset").exists()
