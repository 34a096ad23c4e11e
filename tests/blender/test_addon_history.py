"""Nothing is lost: where results are kept, which file they go to, and what the History can do with them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import numpy as np
import pytest

from backend.shared.asset import write_asset
from tests.blender.layout_helper import Layout, draw
from tests.blender.scene_helpers import make_cloud, orbit


def asset_of(folder: Path, request: dict[str, Any]) -> Path:
    """A small finished asset, as a job would leave it."""
    views = np.ones((2, 1, 8, 8, 4), np.float32)
    return write_asset(
        folder,
        request=request,
        model="starter",
        clouds=[make_cloud(4)],
        views=views,
        cameras=orbit(2),
        fov_deg=40,
        blending="linear",
        timings={},
    )


@pytest.fixture
def done(extension: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A finished job with its asset, in the session's history."""
    host = extension.host.get()
    request = extension.host.GenerationRequest("a red mushroom", seed=7)
    job = extension.client.jobs.new_job(request, asset_of(tmp_path / "asset", request.to_dict()))
    stages = ({"stage": "Loading the model", "seconds": 2.0}, {"stage": "Generating views", "seconds": 8.0})
    job = dataclasses.replace(job, state="done", stages=stages, warnings=("It does not know: qwertz",))
    before = host.session.jobs
    host.session.jobs = [job]
    monkeypatch.setattr(host.thumbnails, "icon", lambda _: 1)  # there are no icons in background mode
    yield job
    host.session.jobs = before
    host.outcome, host.note, host.variations = None, "", []


def test_results_and_history_are_outside_of_the_extension(extension: ModuleType) -> None:
    theirs = Path(bpy.utils.extension_path_user(extension.__name__))
    folders = extension.folders
    kept = (folders.output_folder(), folders.history_folder(), folders.models_folder())
    for folder in (*kept, extension.host.get()._log):
        assert not folder.is_relative_to(theirs)
        assert not folder.is_relative_to(extension.host.ROOT)


def test_results_of_earlier_versions_are_moved_and_their_records_follow(
    extension: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    request = extension.host.GenerationRequest("a red mushroom")
    directory = asset_of(old / "assets" / "a-red-mushroom-0", request.to_dict())
    job = extension.client.jobs.new_job(request, directory)
    extension.client.jobs.Store(old / "jobs").save(dataclasses.replace(job, state="done"))
    (new / "assets" / "a-red-mushroom-0").mkdir(parents=True)  # the name is taken
    monkeypatch.setattr(bpy.utils, "extension_path_user", lambda *_, **__: str(old))
    monkeypatch.setattr(extension.folders, "data_folder", lambda: new)
    assert extension.folders.rescue_old_results() == ""
    (moved,) = extension.client.jobs.Store(new / "history").load()
    assert Path(moved.directory) == new / "assets" / "a-red-mushroom-0-2"
    assert (Path(moved.directory) / "asset.json").is_file()
    assert (old / "assets").resolve() == (new / "assets").resolve()  # .blend files find their views
    assert extension.folders.rescue_old_results() == ""  # and the next time, there is nothing to do


def imported(extension: ModuleType, job: Any, asked: Any) -> set[str]:
    """The collections that a finished job has brought into the open file."""
    host = extension.host.get()
    host._asked[job.id] = asked
    host._import(job)
    return {each.name for each in bpy.data.collections}


def test_result_goes_into_the_file_that_asked_and_no_other(
    extension: ModuleType, done: Any, tmp_path: Path
) -> None:
    host = extension.host.get()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "asking.blend"))
    asked = extension.asked.asked_in(bpy.context)
    bpy.ops.wm.read_homefile(use_empty=True)
    host.outcome = done
    assert imported(extension, done, asked) == set()
    assert "another file" in host.note
    assert "diorama.job_import" in draw(extension.ui.panels.DIORAMA_PT_generate)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "asking.blend"))
    assert host.outcome is None  # what was said was of the other file
    assert "a red mushroom" in imported(extension, done, asked)


def test_buttons_of_the_history_say_what_they_do(extension: ModuleType, done: Any) -> None:
    shown = draw(extension.ui.history.DIORAMA_PT_history)
    buttons = [name for name in shown if name.startswith("diorama.job_")]
    assert len(buttons) == 6
    tips = {getattr(bpy.ops.diorama, name[8:]).get_rna_type().description for name in buttons}
    assert len(tips) == 6
    assert "icon" in shown
    words = " ".join(shown)
    assert "seed 7 · Starter" in words
    assert "took 10 s" in words
    assert "does not know: qwertz" in words


def test_long_prompts_and_warnings_leave_room_for_the_rest(extension: ModuleType, done: Any) -> None:
    host, prompt = extension.host.get(), "a red mushroom on a green meadow " * 30
    warnings = ("The model does not know: meadow. It knows: " + "many words, " * 200,)
    job = dataclasses.replace(done, request={**done.request, "prompt": prompt}, warnings=warnings)
    host.session.jobs, host.outcome = [job], job
    assert job.title == "a red mushroom on a green meadow a red mushroom on a green … · seed 7"
    for panel in (extension.ui.history.DIORAMA_PT_history, extension.ui.panels.DIORAMA_PT_generate):
        shown = draw(panel)
        assert sum(line.endswith(" …") for line in shown) >= 1
        assert sum("many words" in line for line in shown) <= extension.ui.drawing.MOST_LINES
        assert sum("meadow" in line for line in shown) <= 6
        assert any("seed 7" in line for line in shown)


def test_numbers_are_not_torn_from_what_they_count(extension: ModuleType) -> None:
    for width in range(20, 300, 7):
        lines = extension.ui.drawing.wrapped("about 4 minutes, 1.7 GB: a duck · seed 5", width, 1.0)
        assert " ".join(lines) == "about 4 minutes, 1.7 GB: a duck · seed 5"
        assert {"4 minutes,", "1.7 GB:", "seed 5"} <= {part for line in lines for part in parts(line)}


def parts(line: str) -> set[str]:
    """All pairs of words that stand beside each other."""
    words = line.split()
    return {" ".join(words[i : i + 2]) for i in range(len(words))}


def test_deleting_takes_the_asset_s_files_and_no_others(extension: ModuleType, done: Any) -> None:
    directory = Path(done.directory)
    (directory / "mine.txt").write_text("mine")
    bpy.ops.diorama.job_delete(job=done.id)
    assert [path.name for path in directory.rglob("*")] == ["mine.txt"]
    assert not extension.host.get().session.jobs


def test_deleting_a_cancelled_job_takes_its_capture_unless_another_begins_with_it(
    extension: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, directory = extension.host.get().session, tmp_path / "asset"
    capture = directory / "source"
    (capture / "images").mkdir(parents=True)
    (capture / "transforms.json").write_text("{}")
    (capture / "images" / "0.png").write_bytes(b"png")
    (directory / "mine.txt").write_text("mine")
    request = {"prompt": "Suzanne", "seed": 0, "capture": str(capture)}
    first = extension.client.jobs.Job("20260101-000000-1", request, str(directory), state="cancelled")
    again = dataclasses.replace(first, id="20260101-000000-2", directory=str(tmp_path / "asset-2"))
    monkeypatch.setattr(session, "jobs", [first, again])
    bpy.ops.diorama.job_delete(job=first.id)
    assert (capture / "images" / "0.png").is_file()  # the other can still be run again
    monkeypatch.setattr(session, "jobs", [first])
    bpy.ops.diorama.job_delete(job=first.id)
    assert [path.name for path in directory.rglob("*")] == ["mine.txt"]


def test_history_imports_and_gives_settings_back(extension: ModuleType, done: Any) -> None:
    bpy.ops.diorama.job_import(job=done.id)
    assert "a red mushroom" in bpy.data.collections
    bpy.ops.diorama.job_reuse(job=done.id)
    assert (bpy.context.scene.diorama.prompt, bpy.context.scene.diorama.seed) == ("a red mushroom", 7)


def test_result_becomes_an_asset_with_a_preview(extension: ModuleType, done: Any) -> None:
    bpy.ops.diorama.job_import(job=done.id)
    collection = bpy.data.collections["a red mushroom"]
    bpy.context.view_layer.objects.active = extension.scene.splat_objects(collection)[0]
    bpy.ops.diorama.mark_asset()
    assert collection.asset_data.description == "a red mushroom · seed 7"
    assert np.array(collection.preview.image_pixels_float[:]).reshape(-1, 4)[:, 3].max() == 1


def test_variations_wait_to_be_chosen_from(
    extension: ModuleType, done: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = extension.host.get()
    saved: list[Any] = []
    monkeypatch.setattr(host.session, "submit", lambda request, _: saved.append(request) or done)
    host.submit_variations(extension.host.GenerationRequest("a red mushroom", seed=2**31 - 2), 4)
    assert [request.seed for request in saved] == [2**31 - 2, 2**31 - 1, 0, 1]
    assert not host._asked
    layout = Layout()
    extension.ui.history.draw_variations(layout)
    assert layout.drawn.count("diorama.job_choose") == 4
    bpy.ops.diorama.job_choose(job=done.id)
    assert host.variations == []
    assert "a red mushroom" in bpy.data.collections


def test_time_left_is_of_the_whole_job(extension: ModuleType, done: Any) -> None:
    module = extension.client.job_progress
    progress = module.JobProgress()
    assert progress.left_s(()) is None
    assert progress.left_s(done.stages) == 10
    progress.take("stage", {"stage": "Loading the model"})
    assert progress.left_s(done.stages) == pytest.approx(10, abs=0.5)
    assert progress.number(done.stages) == 1
    progress.take("progress", {"stage": "Loading the model", "step": 2, "total": 4, "eta_s": 5.0})
    assert progress.left_s(done.stages) == pytest.approx(13, abs=0.5)  # slower than the last time
    progress.stepped_at = time.monotonic() - 60  # the third step is late; the fourth is still to come
    assert progress.left_s(done.stages) == pytest.approx(10.5, abs=0.5)
    assert progress.stage_left_s() == pytest.approx(2.5)
    progress.take("stage", {"stage": "Generating views"})
    progress.stage_began = time.monotonic() - 6
    assert progress.left_s(done.stages) == pytest.approx(2, abs=0.5)
    progress.take("stage", {"stage": "Something new"})
    assert progress.left_s(done.stages) is None


def test_bar_goes_on_where_a_job_takes_longer_than_the_last(extension: ModuleType, done: Any) -> None:
    progress = extension.client.job_progress.JobProgress()
    assert extension.ui.drawing.fraction(progress, done.stages) == pytest.approx(0, abs=0.05)
    progress.began = time.monotonic() - 60
    progress.take("stage", {"stage": "Generating views"})
    progress.take("progress", {"stage": "Generating views", "step": 2, "total": 4, "eta_s": 20.0})
    assert extension.ui.drawing.fraction(progress, done.stages) == pytest.approx(0.75, abs=0.05)


def test_panels_are_not_drawn_again_for_fourteen_times_as_long_as_drawing_took(extension: ModuleType) -> None:
    redraw = extension.redraw
    assert not redraw.is_too_soon()
    redraw._measure(time.monotonic() - 0.1)
    assert redraw.is_too_soon()
    assert redraw._pace.ready_at - time.monotonic() == pytest.approx(2.9, abs=0.1)
    redraw._measure(
        time.monotonic() - 2
    )  # where other programs make it slow: the panel still tells of progress
    assert redraw._pace.ready_at - time.monotonic() <= redraw.MOST_S
    redraw._measure(time.monotonic())
    assert redraw._pace.ready_at - time.monotonic() < 0.1


def test_preview_is_cut_into_its_pictures(extension: ModuleType, tmp_path: Path) -> None:
    sheet = bpy.data.images.new("sheet", 32, 16)
    colours = np.zeros((16, 32, 4), np.float32)
    colours[..., 3] = 1
    colours[8:, :8, 0], colours[8:, 8:16, 1] = 1, 1  # the first row is at the top: red, then green
    sheet.pixels.foreach_set(colours.ravel())
    sheet.filepath_raw, sheet.file_format = str(tmp_path / "sheet.png"), "PNG"
    sheet.save()
    film = extension.thumbnails.Film()
    for _ in range(6):
        film.load("job 1", str(tmp_path / "sheet.png"), views=2, frames=4)
    cut = sorted(film._folder.glob("*.png"), key=lambda path: path.stat().st_mtime_ns)
    assert len(cut) == len(film._icons) == 4
    first = bpy.data.images.load(str(cut[0]))
    assert tuple(first.size) == (8, 8)
    assert np.allclose(np.array(first.pixels[:]).reshape(-1, 4)[:, :2], (1, 0))
    film.close()
    assert not film._folder.exists()


def test_words_are_completed_and_unknown_ones_named(diorama: ModuleType) -> None:
    settings = bpy.context.scene.diorama
    completed = diorama.ui.properties._completed_prompts(settings, bpy.context, "a red mush")
    assert completed == ["a red mushroom"]
    settings.prompt = "a red Dragon, of the tower"
    assert settings.unknown_words == ["Dragon"]
    settings.prompt = "a blue fish swimming"
    assert settings.unknown_words == ["swimming"]  # of what stands still
    settings.frames = 8
    assert settings.unknown_words == []
    settings.frames, settings.prompt = 1, "a red Dragon"
    assert "Dragon" in " ".join(draw(diorama.ui.panels.DIORAMA_PT_generate))


def test_request_from_before_there_were_presets_is_as_published(extension: ModuleType) -> None:
    settings = bpy.context.scene.diorama
    settings.put_back({"prompt": "a red car", "seed": 1, "model": "starter"})
    assert settings.quality == "full"


def test_verdict_says_whether_a_model_fits(extension: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, models = extension.client.machine, extension.host.catalogue.MODELS
    small = machine.Machine(ram_gib=4)
    large = machine.Machine(64, "RTX", 24)
    assert small.verdict(models["starter"])[0] == "fits"
    assert small.verdict(models["mvdream-lgm"])[0] == "too large"
    assert machine.Machine(8).verdict(models["mvdream-lgm"])[0] == "slow"  # 4.4 GiB in 16 bits
    assert machine.Machine(64, "GTX", 3).verdict(models["mvdream-lgm"])[0] == "slow"
    assert large.verdict(models["mvdream-lgm"])[0] == "fits"
    assert "starter" in machine.recommended(models.values(), small)
    assert "mvdream-lgm" in machine.recommended(models.values(), large)
    monkeypatch.setattr(machine, "_nvidia", lambda: ("", 0.0))
    monkeypatch.setattr(machine, "_ram_gib", lambda: 24.0)
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    monkeypatch.setattr(machine.platform, "machine", lambda: "arm64")
    assert machine.look() == machine.Machine(24.0, "Apple's GPU", 16.0)
