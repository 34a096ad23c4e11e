"""The preference Backend on Another Computer: Blender's own Python, a real ssh and a real sshd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import pytest

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


def test_the_panel_s_job_is_made_there_and_imported_here(
    diorama: ModuleType, there: Any, tmp_path: Path
) -> None:
    there.remote_host = "computer"
    assert diorama.host.get().environment == "chosen"
    bpy.ops.diorama.generate(prompt="a red mushroom", steps=2, views=2, directory=str(tmp_path / "asset"))
    assert (tmp_path / "asset/asset.json").is_file()
    assert any("prompt" in collection for collection in bpy.data.collections)


def test_a_computer_that_cannot_be_reached_is_an_error_in_words(
    diorama: ModuleType, there: Any, tmp_path: Path
) -> None:
    there.remote_host = "closed"
    with pytest.raises(RuntimeError, match="cannot reach closed"):
        bpy.ops.diorama.generate(prompt="a red mushroom", directory=str(tmp_path / "asset"))
    assert not (tmp_path / "asset").exists()
