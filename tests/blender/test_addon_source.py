"""The source of a generation: what the panel shows for each, what the button says, and what it asks for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import numpy as np
import pytest

from tests.blender.layout_helper import draw

PICTURES = "videomv-i2v"
FOUR_SIDES = "mvdream-lgm"  # of which it needs all


@pytest.fixture
def settings(diorama: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The scene's settings, where two models seem to be installed and nothing was made before."""
    host = diorama.host.get()
    for name in (PICTURES, FOUR_SIDES):
        monkeypatch.setitem(host.models, name, dataclasses.replace(host.models[name], installed=True))
    monkeypatch.setattr(host.session, "jobs", [])
    return bpy.context.scene.diorama


@pytest.fixture
def camera() -> bpy.types.Object:
    bpy.ops.mesh.primitive_cube_add(size=1)
    bpy.ops.object.camera_add(location=(0, -6, 0), rotation=(np.pi / 2, 0, 0))
    scene = bpy.context.scene
    scene.camera = bpy.context.object
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 1, False
    return scene.camera


@pytest.mark.parametrize(
    ("source", "shown", "hidden"),
    [
        ("PROMPT", {"prompt"}, {"image", "camera", "only_selected"}),
        ("IMAGE", {"image"}, {"prompt", "camera", "only_selected"}),
        ("CAMERA", {"camera", "only_selected"}, {"prompt", "image"}),
    ],
)
def test_panel_shows_what_the_source_needs(
    diorama: ModuleType, settings: Any, source: str, shown: set[str], hidden: set[str]
) -> None:
    settings.source = source
    settings.model = "starter" if source == "PROMPT" else PICTURES
    drawn = draw(diorama.ui.panels.DIORAMA_PT_generate)
    assert drawn[0] == "source"
    assert shown | {"model", "seed", "quality", "diorama.generate"} <= set(drawn)
    assert not hidden & set(drawn)
    assert not any("works from" in text or "needs" in text for text in drawn)
    assert set(draw(diorama.ui.panels.DIORAMA_PT_output)) >= {"frames", "mesh", "method"}


def test_views_panel_shows_the_orbit(diorama: ModuleType, settings: Any) -> None:
    shown = draw(diorama.ui.panels.DIORAMA_PT_views)
    assert shown == ["views", "Auto: 8", "radius", "Auto: 1.9 m", "use_elevation", "Auto: 15°"]
    settings.views, settings.radius, settings.use_elevation = 6, 2.0, True
    assert draw(diorama.ui.panels.DIORAMA_PT_views) == ["views", "radius", "use_elevation", "elevation"]


@pytest.mark.parametrize(
    ("model", "source", "words", "asked"),
    [
        (
            PICTURES,
            "PROMPT",
            "VideoMV, from an image needs an image: set Source to Image or Camera, or install Text to Image",
            "not installed",
        ),
        (
            FOUR_SIDES,
            "IMAGE",
            "four sides: choose Left, Back, Right. For one image, choose Starter or VideoMV, from an image",
            "not installed|conditioned on text",
        ),
        (PICTURES, "CAMERA", "The scene has no active camera", "has no active camera"),
    ],
)
def test_panel_says_why_the_button_is_grey_and_scripts_are_told(
    diorama: ModuleType, settings: Any, model: str, source: str, words: str, asked: str
) -> None:
    settings.model, settings.source, settings.image = model, source, "/somewhere/chair.png"
    settings.prompt = "a red mushroom"
    assert words in " ".join(draw(diorama.ui.panels.DIORAMA_PT_generate))
    with pytest.raises(RuntimeError, match=asked):
        bpy.ops.diorama.generate()


def test_what_a_script_asks_for_is_judged_and_not_the_panel(diorama: ModuleType, settings: Any) -> None:
    settings.source, settings.model, settings.frames, settings.method = "CAMERA", "starter", 8, "distill"
    with pytest.raises(RuntimeError, match="E_OUTPUT"):
        bpy.ops.diorama.generate(prompt="a car", frames=1, method="reconstruct", directory="/dev/null/asset")


@pytest.mark.parametrize("source", ["IMAGE", "CAMERA"])
def test_on_a_fresh_machine_every_source_has_a_model(
    diorama: ModuleType, camera: bpy.types.Object, source: str
) -> None:
    settings = bpy.context.scene.diorama
    settings.model, settings.source, settings.image, settings.frames = "starter", source, "/chair.png", 1
    assert settings.contradiction == ""
    settings.frames = 8
    assert "Starter makes what moves of a prompt" in settings.contradiction
    settings.frames = 1
    if source == "IMAGE":
        settings.image_back = "/back.png"
        assert "Choose Left, Right too" in settings.contradiction


def test_only_selected_needs_a_selection(
    diorama: ModuleType, settings: Any, camera: bpy.types.Object
) -> None:
    settings.model, settings.source, settings.only_selected = PICTURES, "CAMERA", True
    bpy.ops.object.select_all(action="DESELECT")
    assert "Nothing is selected" in " ".join(draw(diorama.ui.panels.DIORAMA_PT_generate))
    with pytest.raises(RuntimeError, match="Nothing is selected"):
        bpy.ops.diorama.generate()


def test_starter_is_told_what_an_image_shows(
    diorama: ModuleType, settings: Any, camera: bpy.types.Object, tmp_path: Path
) -> None:
    settings.model, settings.source, settings.prompt = "starter", "CAMERA", "left from before"
    settings.shows = "a red mushrom"
    drawn = draw(diorama.ui.panels.DIORAMA_PT_generate)
    assert "shows" in drawn and "does not know: mushrom" in " ".join(drawn)
    settings.shows = "a red mushroom"
    settings.source = "PROMPT"
    assert "shows" not in draw(diorama.ui.panels.DIORAMA_PT_generate)
    settings.source, settings.image, settings.image_left = "IMAGE", "/chair.png", "/left.png"
    assert "shows" not in draw(diorama.ui.panels.DIORAMA_PT_generate)  # nothing is generated then
    settings.image_left = ""
    with pytest.raises(RuntimeError, match="E_IMAGE"):  # which is not there
        bpy.ops.diorama.generate(directory=str(tmp_path / "asset"))
    job = diorama.host.get().session.jobs[-1]
    assert (job.request["prompt"], job.request["image"]) == (
        "a red mushroom",
        str(Path("/chair.png").resolve()),
    )
    settings.shows = ""
    bpy.ops.diorama.job_reuse(job=job.id)
    assert (settings.source, settings.shows, settings.prompt) == ("IMAGE", "a red mushroom", "")


def test_camera_becomes_the_request_s_picture(
    diorama: ModuleType, settings: Any, camera: bpy.types.Object, tmp_path: Path
) -> None:
    settings.model, settings.source, settings.prompt = PICTURES, "CAMERA", "left from before"
    objects = set(bpy.data.objects)
    with pytest.raises(
        RuntimeError, match="E_WEIGHTS_MISSING"
    ):  # the job runs; the model is not really there
        bpy.ops.diorama.generate(directory=str(tmp_path / "asset"))
    job = diorama.host.get().session.jobs[-1]
    picture = tmp_path / "asset" / "source" / "Camera.png"
    assert (job.request["image"], job.request["prompt"]) == (str(picture), "")
    assert job.title == "Camera.png · seed 0"
    image = bpy.data.images.load(str(picture))
    alpha = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)[..., 3]
    assert alpha[alpha.shape[0] // 2, alpha.shape[1] // 2] == 1
    assert alpha[0, 0] == 0
    assert set(bpy.data.objects) == objects
    bpy.ops.diorama.job_reuse(job=job.id)
    assert (settings.source, settings.image, settings.prompt) == ("IMAGE", str(picture), "")


def test_image_is_found_beside_the_file_and_must_be_chosen(
    diorama: ModuleType, settings: Any, tmp_path: Path
) -> None:
    settings.model, settings.source = PICTURES, "IMAGE"
    with pytest.raises(RuntimeError, match="no image is chosen"):
        bpy.ops.diorama.generate()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    bpy.context.scene.diorama.image = "//chair.png"
    with pytest.raises(RuntimeError, match="E_WEIGHTS_MISSING"):
        bpy.ops.diorama.generate(directory=str(tmp_path / "asset"))
    request = diorama.host.get().session.jobs[-1].request
    assert request["image"] == str((tmp_path / "chair.png").resolve())


def test_four_sides_of_the_panel_reach_the_request(diorama: ModuleType, settings: Any) -> None:
    settings.model, settings.source, settings.quality = "starter", "IMAGE", "draft"
    paths = {name: f"/somewhere/{side}.png" for name, side in diorama.ui.properties.SIDES.items()}
    for name, path in paths.items():
        assert "diorama.generate" in draw(diorama.ui.panels.DIORAMA_PT_generate)
        assert bool(settings.contradiction) == (name != "image_left")  # the front alone is enough
        setattr(settings, name, path)
    assert set(paths) <= set(draw(diorama.ui.panels.DIORAMA_PT_generate))
    assert settings.contradiction == ""
    with pytest.raises(RuntimeError, match="E_OUTPUT"):
        bpy.ops.diorama.generate(directory="/dev/null/asset")
    request = diorama.host.get().session.jobs[-1].request
    assert {name: request[name] for name in paths} == paths
    assert not request["fast"]
    settings.image_left = ""
    bpy.ops.diorama.job_reuse(job=diorama.host.get().session.jobs[-1].id)
    assert settings.image_left == paths["image_left"]
    settings.views = 6
    assert "set Views to 0" in settings.contradiction


def test_number_of_gaussians_is_shown_and_asked_for_where_it_can_be_chosen(
    diorama: ModuleType, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "gaussians" not in draw(diorama.ui.panels.DIORAMA_PT_output)
    host = diorama.host.get()
    monkeypatch.setitem(
        host.models, "triposplat", dataclasses.replace(host.models["triposplat"], installed=True)
    )
    settings.model, settings.source, settings.image = "triposplat", "IMAGE", "/somewhere/chair.png"
    assert "gaussians" in draw(diorama.ui.panels.DIORAMA_PT_output)
    assert settings.gaussians == "131072"
    for script, asked in (({}, (65_536, None)), ({"gaussians": 32_768, "shift": 2.5}, (32_768, 2.5))):
        settings.gaussians = "65536"
        with pytest.raises(RuntimeError, match="E_OUTPUT"):
            bpy.ops.diorama.generate(directory="/dev/null/asset", **script)
        request = host.session.jobs[-1].request
        assert (request["gaussians"], request["shift"]) == asked


def test_orbit_of_the_panel_reaches_the_request(diorama: ModuleType, settings: Any) -> None:
    settings.prompt, settings.views = "a red mushroom", 6
    settings.radius, settings.elevation = 2.1, np.radians(25)
    for used, elevation_deg in ((False, None), (True, 25.0)):
        settings.use_elevation = used
        with pytest.raises(RuntimeError):
            bpy.ops.diorama.generate(directory="/dev/null/asset")
        request = diorama.host.get().session.jobs[-1].request
        found = (request["views"], request["elevation_deg"], request["radius"])
        assert found == (6, elevation_deg, 2.1)
    settings.views, settings.radius, settings.use_elevation = 0, 0, False
    bpy.ops.diorama.job_reuse(job=diorama.host.get().session.jobs[-1].id)
    assert (settings.views, settings.use_elevation) == (6, True)
    assert (settings.radius, np.degrees(settings.elevation)) == pytest.approx((2.1, 25))


def test_preset_is_that_of_the_panel_or_of_a_script(diorama: ModuleType, settings: Any) -> None:
    settings.prompt = "a red mushroom"
    for panel, script, asked in (
        ("draft", {}, ("draft", False, None)),
        ("full", {"preset": "standard", "fast": True, "steps": 9}, ("standard", True, 9)),
    ):
        settings.quality = panel
        with pytest.raises(RuntimeError):
            bpy.ops.diorama.generate(directory="/dev/null/asset", **script)
        request = diorama.host.get().session.jobs[-1].request
        assert (request["preset"], request["fast"], request["steps"]) == asked
    bpy.ops.diorama.job_reuse(job=diorama.host.get().session.jobs[-1].id)
    assert settings.quality == "standard"


def test_prompt_of_a_script_is_the_source(diorama: ModuleType, settings: Any) -> None:
    settings.model, settings.source, settings.image = PICTURES, "IMAGE", "/somewhere/chair.png"
    with pytest.raises(RuntimeError, match="E_OUTPUT"):
        bpy.ops.diorama.generate(prompt="a car", model="starter", directory="/dev/null/asset")
    request = diorama.host.get().session.jobs[-1].request
    assert (request["prompt"], request["image"]) == ("a car", None)


def test_panel_says_what_was_done(
    diorama: ModuleType, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = diorama.client.jobs.new_job(diorama.host.GenerationRequest("a red mushroom"), tmp_path)
    done = dataclasses.replace(job, state="done")
    monkeypatch.setattr(diorama.host.get(), "outcome", done)
    assert "Done: a red mushroom · seed 0" in draw(diorama.ui.panels.DIORAMA_PT_generate)


def test_history_of_pictures_is_read_again(diorama: ModuleType, tmp_path: Path) -> None:
    store = diorama.client.jobs.Store(tmp_path)
    request = diorama.host.GenerationRequest(image="/pictures/chair.png", model=PICTURES)
    job = dataclasses.replace(diorama.client.jobs.new_job(request, tmp_path / "asset"), state="done")
    store.save(job)
    assert store.load() == [job]
    assert diorama.client.jobs.folder_name(request).startswith("chair-0-")
