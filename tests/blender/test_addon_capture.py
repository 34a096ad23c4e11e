"""The active camera as image source: the picture that it makes, and the scene that it leaves as it was."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import numpy as np
import pytest

# Blender 4.2 counts the users of what is in a scene twice when the scene is copied, until the file is opened
# again; nothing in its Python can count down.
IGNORED = {"rna_type"} | ({"users"} if bpy.app.version < (4, 5, 0) else set())


@pytest.fixture
def scene() -> bpy.types.Scene:
    """A selected red cube on a ground, before a camera, in a scene with render settings of its own."""
    bpy.ops.mesh.primitive_plane_add(size=30, location=(0, 0, -1))
    bpy.ops.mesh.primitive_cube_add(size=1, location=(0, 0, 0.2))
    material = bpy.data.materials.new("red")
    material.diffuse_color = (1, 0, 0, 1)
    bpy.context.object.data.materials.append(material)
    bpy.ops.object.light_add(type="SUN", location=(0, -5, 5))
    bpy.ops.object.camera_add(location=(0, -6, 0.2), rotation=(np.pi / 2, 0, 0))
    scene = bpy.context.scene
    scene.camera = bpy.context.object
    scene.world = bpy.data.worlds.new("grey")
    render = scene.render
    render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 2, False
    render.resolution_x, render.resolution_y, render.resolution_percentage = 320, 180, 25
    render.pixel_aspect_y = 2.0
    render.use_border, render.border_max_x = True, 0.5
    if hasattr(render.image_settings, "media_type"):
        render.image_settings.media_type = "IMAGE"
    render.image_settings.file_format, render.image_settings.color_depth = "OPEN_EXR", "32"
    render.filepath = "//frames/shot_"
    scene.timeline_markers.new("cut", frame=1).camera = scene.camera
    scene.keyframe_insert("gravity", frame=1)
    bpy.ops.object.select_all(action="DESELECT")
    bpy.data.objects["Cube"].select_set(True)
    return scene


def state(scene: bpy.types.Scene) -> dict[str, Any]:
    """All settings that a render could change, and how much of everything there is."""
    owners = [scene, scene.render, scene.render.image_settings, scene.view_settings, scene.cycles]
    owners += [scene.eevee, scene.display, *scene.view_layers, *scene.timeline_markers, *scene.objects]
    found = {
        f"{owner!r}.{name}": repr(tuple(value) if hasattr(value, "__len__") else value)
        for owner in owners
        for name in owner.bl_rna.properties.keys()  # noqa: SIM118 (a collection of Blender's)
        if name not in IGNORED
        for value in [getattr(owner, name)]
    }
    collections = [
        name for name in dir(bpy.data) if isinstance(getattr(bpy.data, name), bpy.types.bpy_prop_collection)
    ]
    return found | {name: sorted(item.name for item in getattr(bpy.data, name)) for name in collections}


def pixels(path: Path) -> np.ndarray:  # [H, W, 4], bottom row first
    image = bpy.data.images.load(str(path), check_existing=False)
    try:
        assert (image.channels, image.file_format) == (4, "PNG")
        return np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)
    finally:
        bpy.data.images.remove(image)


def test_picture_has_the_object_and_no_background(
    diorama: ModuleType, scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diorama.capture, "LONGEST_PX", 128)
    before = state(scene)
    path = tmp_path / "{new}" / "{scene_name}" / "{camera}.png"
    diorama.capture.picture(bpy.context, scene.camera, path, only_selected=True)
    (said,) = diorama.capture.differences(scene)
    assert "the whole frame" in said  # its region is rendered alone, but not cropped to
    assert state(scene) == before
    assert [child.name for child in path.parent.iterdir()] == ["{camera}.png"]
    rgba = pixels(path)
    height, width = rgba.shape[:2]
    assert (height, width) == (128, 114)  # 320 × 180 pixels that are twice as high as wide
    alpha = rgba[..., 3]
    assert (alpha[height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4] == 1).all()
    border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
    assert not border.any()
    assert 0.01 < (alpha > 0.5).mean() < 0.5


def test_whole_scene_has_the_ground_in_it(
    diorama: ModuleType, scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diorama.capture, "LONGEST_PX", 64)
    before = state(scene)
    diorama.capture.picture(bpy.context, scene.camera, tmp_path / "camera.png")
    assert state(scene) == before
    alpha = pixels(tmp_path / "camera.png")[..., 3]
    assert (alpha[0] == 1).all()  # the ground below
    assert not alpha[-1].any()  # the world above


def test_failing_render_leaves_the_scene_as_it_was(
    diorama: ModuleType, scene: bpy.types.Scene, tmp_path: Path
) -> None:
    before = state(scene)
    with pytest.raises(diorama.capture.DioramaError, match="could not be rendered") as failed:
        diorama.capture.picture(bpy.context, None, tmp_path / "camera.png")
    assert failed.value.code == "E_IMAGE"
    assert state(scene) == before
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(diorama.capture.DioramaError, match="cannot be written"):
        diorama.capture.picture(bpy.context, scene.camera, tmp_path / "file" / "camera.png")
    assert state(scene) == before


def render_and_wait(context: bpy.types.Context, scene: str) -> None:
    """What stands for a render in a window, where there is none."""
    bpy.ops.render.render(write_still=True, scene=scene, layer=context.view_layer.name)


def test_window_gets_the_same_picture_and_the_scene_is_as_before(
    diorama: ModuleType, scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diorama.capture, "LONGEST_PX", 64)
    monkeypatch.setattr(diorama.capture, "_begin_render", render_and_wait)
    before, ended = state(scene), []
    there, path = tmp_path / "there.png", tmp_path / "camera.png"
    diorama.capture.picture(bpy.context, scene.camera, there, only_selected=True)
    rendering = diorama.capture.Rendering(bpy.context, scene.camera, path, True, ended.append)
    assert not ended
    assert rendering.pump()
    assert ended == [None] and state(scene) == before
    assert np.array_equal(pixels(path), pixels(there))
    assert not bpy.app.handlers.render_cancel


def test_cancelled_picture_is_thrown_away_and_nothing_follows(
    diorama: ModuleType, scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled(context: bpy.types.Context, copy: str) -> None:
        assert bpy.data.scenes[copy].render.use_lock_interface
        render_and_wait(context, copy)  # Blender writes what there is
        for told in list(bpy.app.handlers.render_cancel):
            told(None)

    monkeypatch.setattr(diorama.capture, "LONGEST_PX", 16)
    monkeypatch.setattr(diorama.capture, "_begin_render", cancelled)
    before, ended = state(scene), []
    path = tmp_path / "camera.png"
    rendering = diorama.capture.Rendering(bpy.context, scene.camera, path, False, ended.append)
    assert rendering.pump()
    assert [failure.code for failure in ended] == ["E_CANCELLED"]
    assert not path.exists() and state(scene) == before


def test_copy_of_the_scene_gets_into_no_file(
    diorama: ModuleType, scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed_meanwhile(_context: bpy.types.Context, _copy: str) -> None:
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "quit.blend"), copy=True)

    monkeypatch.setattr(diorama.capture, "_begin_render", closed_meanwhile)
    rendering = diorama.capture.Rendering(bpy.context, scene.camera, tmp_path / "a.png", False, print)
    assert not rendering.pump()
    rendering.close()
    with bpy.data.libraries.load(str(tmp_path / "quit.blend")) as (saved, _):
        assert saved.scenes == [scene.name]


def test_nothing_is_imported_while_there_is_a_copy_of_the_scene(
    diorama: ModuleType, scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, order = diorama.host.get(), []
    monkeypatch.setattr(diorama.capture, "LONGEST_PX", 16)
    monkeypatch.setattr(diorama.capture, "_begin_render", render_and_wait)
    monkeypatch.setattr(host, "_import", lambda job: order.append(len(bpy.data.scenes)))
    rendering = diorama.capture.Rendering(bpy.context, scene.camera, tmp_path / "a.png", False, order.append)
    rendering.ended = ""  # as if it went on
    host.begin_capture(rendering)
    host._to_import.append("a job that has just ended")
    assert host._tick() == diorama.host.BUSY_S and not order
    rendering.ended = "completed"
    host._tick()
    assert order == [None, 1] and host.capture is None


def test_picture_is_given_up_when_another_file_is_opened_or_the_add_on_disabled(
    diorama: ModuleType, scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin() -> None:
        camera = bpy.context.scene.camera
        host.begin_capture(diorama.capture.Rendering(bpy.context, camera, tmp_path / "a.png", False, print))

    host = diorama.host.get()
    monkeypatch.setattr(diorama.capture, "_begin_render", lambda *_: None)
    begin()
    with pytest.raises(RuntimeError, match="Wait until the camera's image is rendered"):
        bpy.ops.diorama.generate(prompt="a red mushroom")
    bpy.ops.preferences.addon_disable(module=diorama.__name__)
    assert len(bpy.data.scenes) == 1 and not bpy.app.handlers.render_cancel
    bpy.ops.preferences.addon_enable(module=diorama.__name__)
    host = diorama.host.get()
    begin()
    bpy.ops.wm.read_homefile(use_empty=True)
    host._tick()
    assert host.capture is None and len(bpy.data.scenes) == 1


def test_picture_that_cannot_be_begun_leaves_the_scene_as_it_was(
    diorama: ModuleType, scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diorama.capture, "_begin_render", render_and_wait)
    before = state(scene)
    with pytest.raises(diorama.capture.DioramaError, match="could not be rendered"):
        diorama.capture.Rendering(bpy.context, None, tmp_path / "camera.png", False, print)
    assert state(scene) == before and not bpy.app.handlers.render_cancel


def test_rigid_bodies_are_warned_of(diorama: ModuleType, scene: bpy.types.Scene) -> None:
    bpy.context.view_layer.objects.active = bpy.data.objects["Cube"]
    bpy.ops.rigidbody.object_add()
    assert "rigid bodies" in diorama.capture.differences(scene)[0]


def test_camera_can_be_named(diorama: ModuleType, scene: bpy.types.Scene) -> None:
    active_camera = diorama.capture.active_camera
    assert active_camera(scene) == active_camera(scene, "Camera") == scene.camera
    with pytest.raises(diorama.capture.DioramaError, match="no camera 'Cube'") as failed:
        active_camera(scene, "Cube")
    assert "Its cameras are: Camera." in failed.value.hint
    scene.camera = None
    with pytest.raises(diorama.capture.DioramaError, match="no active camera"):
        active_camera(scene)


def test_cropped_render_gives_a_cropped_picture_of_the_same_length(
    diorama: ModuleType, scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diorama.capture, "LONGEST_PX", 64)
    diorama.capture.picture(bpy.context, scene.camera, tmp_path / "whole.png", only_selected=True)
    whole = pixels(tmp_path / "whole.png")
    scene.render.use_crop_to_border = True
    scene.render.border_min_y, scene.render.border_max_y = 0.25, 0.75  # the left half, the middle rows
    before = state(scene)
    diorama.capture.picture(bpy.context, scene.camera, tmp_path / "cropped.png", only_selected=True)
    assert state(scene) == before and diorama.capture.differences(scene) == []
    cropped = pixels(tmp_path / "cropped.png")
    assert cropped.shape[:2] == (64, 57) and whole.shape[:2] == (64, 57)
    alpha = cropped[..., 3]
    assert (alpha[24:40, -4:] == 1).all() and not alpha[:, :20].any()  # half of the cube, at the right border
    # Twice as large: the same share of half the frame's width and height.
    assert (alpha > 0.5).sum() == pytest.approx(2 * (whole[..., 3] > 0.5).sum(), rel=0.1)
    seen = diorama.capture.seen(bpy.context, scene.camera, only_selected=True)
    assert seen and seen.size == pytest.approx(1, abs=0.01)
    scene.render.border_max_x = 0.1  # beside the cube
    assert diorama.capture.seen(bpy.context, scene.camera, only_selected=True) is None


def test_stereoscopy_gives_one_picture_from_the_middle_and_is_said(
    diorama: ModuleType, scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diorama.capture, "LONGEST_PX", 32)
    scene.render.use_border = False
    diorama.capture.picture(bpy.context, scene.camera, tmp_path / "one" / "camera.png", only_selected=True)
    scene.render.use_multiview = True
    scene.camera.data.stereo.interocular_distance = 2.0
    before = state(scene)
    diorama.capture.picture(bpy.context, scene.camera, tmp_path / "two" / "camera.png", only_selected=True)
    assert state(scene) == before
    assert [child.name for child in (tmp_path / "two").iterdir()] == ["camera.png"]
    assert np.array_equal(pixels(tmp_path / "one" / "camera.png"), pixels(tmp_path / "two" / "camera.png"))
    (said,) = diorama.capture.differences(scene)
    assert "two eyes" in said


def test_panoramic_camera_is_refused_in_words(diorama: ModuleType, scene: bpy.types.Scene) -> None:
    assert diorama.capture.obstacle(bpy.context, only_selected=True) == ""
    scene.camera.data.type = "PANO"
    with pytest.raises(diorama.capture.DioramaError, match="Camera has a panoramic lens") as failed:
        diorama.capture.active_camera(scene)
    assert failed.value.code == "E_REQUEST" and "Perspective" in failed.value.hint
    assert "panoramic" in diorama.capture.obstacle(bpy.context, only_selected=True)
    (said,) = [each for each in diorama.scene.render.obstacles(scene) if "lens" in each]
    assert "Camera" in said
