"""Save Turntable: a video of the active result, made by another Blender; the open file stays as it is."""

from __future__ import annotations

import time
from pathlib import Path
from types import ModuleType

import bpy
import pytest

from backend.shared.ply import write_ply
from tests.blender.scene_helpers import make_cloud


@pytest.fixture
def body(diorama: ModuleType, tmp_path: Path) -> bpy.types.Object:
    """Splats, active, in a scene with something else in it, that renders quickly."""
    bpy.ops.mesh.primitive_cube_add(size=20)
    write_ply(tmp_path / "blob.ply", make_cloud(50))
    bpy.ops.diorama.import_splats(filepath=str(tmp_path / "blob.ply"), blending="LINEAR")
    scene = bpy.context.scene
    scene.render.engine, scene.render.fps, scene.render.filepath = "CYCLES", 10, "//mine"
    scene.world = bpy.data.worlds.new("dark")
    return bpy.context.view_layer.objects.active


def test_turntable_is_a_video_of_the_result_alone(body: bpy.types.Object, tmp_path: Path) -> None:
    def state() -> tuple[object, ...]:
        scene = bpy.context.scene
        hidden = [(item.name, item.hide_render) for item in scene.objects]
        return (
            hidden,
            scene.camera,
            scene.frame_end,
            scene.render.filepath,
            scene.render.image_settings.file_format,
        )

    before, video = state(), tmp_path / "turn.mp4"
    options = {"filepath": str(video), "size": 33, "seconds": 0.4, "samples": 1}
    assert bpy.ops.diorama.save_turntable(**options) == {"FINISHED"}
    assert state() == before
    clip = bpy.data.movieclips.load(str(video))
    assert (tuple(clip.size), clip.frame_duration, clip.fps) == ((32, 32), 4, 10)
    made = video.read_bytes()
    with pytest.raises(RuntimeError, match="is there already"):
        bpy.ops.diorama.save_turntable(**options)
    assert video.read_bytes() == made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blob.ply", "turn.mp4"]


def test_cancelled_turntable_leaves_nothing(
    diorama: ModuleType, body: bpy.types.Object, tmp_path: Path
) -> None:
    told: list[object] = []
    shot = diorama.turntable.Shot(512, 10.0, 64)
    turntable = diorama.turntable.Turntable(bpy.context, body, shot, tmp_path / "turn.mp4", told.append)
    folders = [Path(turntable._folder.name), Path(turntable._video.name)]
    turntable.cancel()
    until = time.monotonic() + 30
    while not turntable.pump() and time.monotonic() < until:
        time.sleep(0.05)
    assert turntable.pump() and not told and not turntable.saved
    assert not any(folder.exists() for folder in folders) and not (tmp_path / "turn.mp4").exists()


def test_what_cannot_be_rendered_is_said(body: bpy.types.Object, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="There is no folder"):
        bpy.ops.diorama.save_turntable(filepath=str(tmp_path / "no" / "turn.mp4"))
    body.hide_render = True
    with pytest.raises(RuntimeError, match="nothing of the selected objects is visible"):
        bpy.ops.diorama.save_turntable(filepath=str(tmp_path / "turn.mp4"), size=16, seconds=0.2)
    assert not (tmp_path / "turn.mp4").exists()
    bpy.context.view_layer.objects.active = bpy.context.scene.objects["Cube"]
    with pytest.raises(RuntimeError, match="Select a splat object"):
        bpy.ops.diorama.save_turntable(filepath=str(tmp_path / "turn.mp4"))
