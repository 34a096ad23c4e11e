"""`bpy.ops.diorama.generate`: from the prompt to the scene, and what it says about bad input."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import numpy as np
import pytest

from backend.shared.asset import write_asset
from tests.blender.scene_helpers import make_cloud, orbit


def test_prompt_becomes_a_collection(diorama: ModuleType, tmp_path: Path) -> None:
    result = bpy.ops.diorama.generate(
        prompt="a red mushroom", seed=7, steps=2, directory=str(tmp_path / "asset")
    )
    assert result == {"FINISHED"}
    assert (tmp_path / "asset" / "asset.json").is_file()
    collection = bpy.data.collections["a red mushroom"]
    (splats,) = diorama.scene.splat_objects(collection)
    assert (splats["prompt"], splats["seed"], splats["model"]) == ("a red mushroom", 7, "starter")
    assert diorama.scene.view_cameras(collection)
    assert diorama.scene.orbit_camera(collection).animation_data
    job = diorama.host.get().session.jobs[-1]
    assert job.state == "done"
    assert sum(stage["seconds"] for stage in job.stages) > 0
    assert 0 < job.peak_mib < 4096


def test_settings_of_the_scene_are_used_where_none_are_given(diorama: ModuleType) -> None:
    bpy.context.scene.diorama.prompt = "a blue snowman"
    bpy.context.scene.diorama.seed = 3
    with pytest.raises(RuntimeError, match="E_OUTPUT_UNWRITABLE"):  # to save time
        bpy.ops.diorama.generate(steps=2, directory="/dev/null/asset")
    request = diorama.host.get().session.jobs[-1].request
    assert (request["prompt"], request["seed"], request["steps"]) == ("a blue snowman", 3, 2)


def test_folder_of_a_script_is_where_blender_works(
    diorama: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(diorama.host.get(), "run", lambda *arguments: asked.append(arguments) or 1 / 0)
    with pytest.raises(RuntimeError, match="division by zero"):
        bpy.ops.diorama.generate(prompt="a red mushroom", directory="asset")
    assert asked[0][1] == tmp_path / "asset"


def test_method_is_the_script_s_or_the_scene_s_and_comes_back_from_the_history(diorama: ModuleType) -> None:
    settings = bpy.context.scene.diorama
    settings.method, settings.frames = "distill", 8
    with pytest.raises(RuntimeError, match="distillation makes objects that stand still"):
        bpy.ops.diorama.generate(prompt="a red mushroom")
    settings.frames = 1

    def asked(**options: str) -> Any:
        with pytest.raises(RuntimeError, match="E_OUTPUT_UNWRITABLE"):  # to save time
            bpy.ops.diorama.generate(prompt="a red mushroom", directory="/dev/null/asset", **options)
        return diorama.host.get().session.jobs[-1]

    job = asked()
    assert job.request["method"] == "distill"
    assert asked(method="reconstruct").request["method"] == "reconstruct"
    settings.method = "reconstruct"
    bpy.ops.diorama.job_reuse(job=job.id)
    assert settings.method == "distill"


def test_unknown_words_are_named(diorama: ModuleType, tmp_path: Path) -> None:
    wanted = {"prompt": "a red mushroom qwertz", "steps": 1, "views": 2}
    bpy.ops.diorama.generate(**wanted, directory=str(tmp_path / "asset"))
    (warning,) = diorama.host.get().session.jobs[-1].warnings
    assert warning == "The model does not know: qwertz."  # the known ones would fill the panel


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"prompt": ""}, "E_PROMPT_EMPTY"),
        ({"prompt": " \t "}, "E_PROMPT_EMPTY"),
        ({"prompt": "x" * 10_000}, "E_PROMPT_TOO_LONG"),
        ({"prompt": "a red mushroom", "model": "stable-nothing"}, "E_MODEL_UNKNOWN"),
        ({"prompt": "a red mushroom", "steps": 5000}, "E_REQUEST"),
    ],
)
def test_bad_input_is_an_error_in_words(diorama: ModuleType, settings: dict, code: str) -> None:
    before = len(diorama.host.get().session.jobs)
    with pytest.raises(RuntimeError, match=code):
        bpy.ops.diorama.generate(**settings)
    assert len(diorama.host.get().session.jobs) == before
    assert not bpy.data.collections


def test_unwritable_folder(diorama: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RuntimeError, match=r"E_OUTPUT_UNWRITABLE.*Choose a place"):
        bpy.ops.diorama.generate(prompt="a red mushroom", directory=str(tmp_path / "file" / "asset"))
    assert not bpy.data.collections


def test_history_gives_the_settings_back(diorama: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        bpy.ops.diorama.generate(prompt="a green fish", seed=5, directory="/dev/null/asset")
    session = diorama.host.get().session
    job = session.jobs[-1]
    bpy.ops.diorama.job_reuse(job=job.id)
    assert bpy.context.scene.diorama.prompt == "a green fish"
    assert bpy.context.scene.diorama.seed == 5
    bpy.ops.diorama.job_delete(job=job.id)
    assert job not in session.jobs


def test_of_an_earlier_job_only_its_settings_are_an_undo_step(diorama: ModuleType) -> None:
    with pytest.raises(RuntimeError):
        bpy.ops.diorama.generate(prompt="a green fish", directory="/dev/null/asset")
    job = diorama.host.get().session.jobs[-1]
    bpy.context.scene.diorama.prompt = "a car"
    bpy.ops.ed.undo_push(message="Typed")
    for action in (bpy.ops.diorama.job_reuse, bpy.ops.diorama.job_delete):
        action("EXEC_DEFAULT", True, job=job.id)
    assert bpy.context.scene.diorama.prompt == "a green fish"
    bpy.ops.ed.undo()
    assert bpy.context.scene.diorama.prompt == "a car"


def test_result_goes_to_the_scene_that_asked_even_if_it_was_renamed(
    diorama: ModuleType, tmp_path: Path
) -> None:
    write_asset(
        tmp_path,
        request={"prompt": "a red mushroom", "seed": 7},
        model="starter",
        clouds=[make_cloud(20)],
        views=np.ones((1, 1, 8, 8, 3)),
        cameras=orbit(1),
        fov_deg=40.0,
        blending="linear",
        timings={},
    )
    host, asked_by = diorama.host.get(), bpy.data.scenes.new("where it was asked")
    asked = diorama.asked.Asked(asked_by.session_uid, asked_by.name, "", 1.0)
    job = host.submit(diorama.host.GenerationRequest("a red mushroom"), tmp_path, asked)
    host.session.cancel(job.id)  # it is as good as done
    asked_by.name = "renamed meanwhile"
    host._import(job)
    assert "a red mushroom" in asked_by.collection.children
    assert not bpy.context.scene.collection.children
