"""Objects → splats: selected objects are rendered by another Blender, fitted, imported; nothing changes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import numpy as np
import pytest

from tests.blender.layout_helper import draw


@pytest.fixture
def ball(diorama: ModuleType) -> bpy.types.Object:
    """A striped ball away from the origin, under a sun, with a box beside it that is not selected."""
    bpy.ops.mesh.primitive_cube_add(size=1, location=(0, 0, 0))
    bpy.ops.object.light_add(type="SUN", rotation=(0.5, 0.3, 0))
    bpy.ops.mesh.primitive_ico_sphere_add(radius=0.4, location=(3, 1, 2), subdivisions=2)
    item = bpy.context.object
    item.name = "Ball"
    item.modifiers.new("Smooth", "SUBSURF").levels = 1
    material = bpy.data.materials.new("Stripes")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    wave = nodes.new("ShaderNodeTexWave")
    shader = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
    links.new(wave.outputs["Color"], shader.inputs["Base Color"])
    item.data.materials.append(material)
    scene = bpy.context.scene
    world = bpy.data.worlds.new("World")
    if world.node_tree is None:
        world.use_nodes = True
    scene.world = world
    scene.render.engine, scene.cycles.samples = "CYCLES", 2
    scene.render.resolution_x, scene.render.filepath = 333, "//mine"
    settings = scene.diorama
    settings.source, settings.splats = "OBJECTS", 1000
    settings.object_views, settings.object_size, settings.object_samples = 16, 48, 1
    return item


def _state() -> dict[str, Any]:
    """All settings of the scene and its renders, and where its objects are."""

    def plain(owner: bpy.types.bpy_struct) -> dict[str, str]:
        return {
            prop.identifier: repr(getattr(owner, prop.identifier))
            for prop in owner.bl_rna.properties
            if prop.type in {"BOOLEAN", "INT", "FLOAT", "STRING", "ENUM"}
        }

    scene = bpy.context.scene
    return {
        "scene": plain(scene),
        "render": plain(scene.render),
        "image": plain(scene.render.image_settings),
        "cycles": plain(scene.cycles),
        "view": plain(scene.view_settings),
        "objects": {o.name: (tuple(map(tuple, o.matrix_world)), o.hide_render) for o in scene.objects},
        "selected": [o.name for o in bpy.context.view_layer.objects.selected],
        "camera": scene.camera,
        "file": bpy.data.filepath,
        "blocks": {
            kind: len(getattr(bpy.data, kind)) for kind in ("cameras", "images", "scenes", "materials")
        },
    }


def test_selected_objects_become_splats_in_their_place(
    diorama: ModuleType, ball: bpy.types.Object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = _state(), {}
    run = diorama.host.Host.run

    def look_then_run(*arguments: Any) -> Any:
        after.update(_state())  # when all is rendered, and before anything is imported
        return run(*arguments)

    monkeypatch.setattr(diorama.host.Host, "run", look_then_run)
    bpy.context.scene.diorama.stand = "OVER"
    out = tmp_path / "asset"
    assert bpy.ops.diorama.objects_to_splats(directory=str(out), iterations=150) == {"FINISHED"}
    assert after == before
    manifest = json.loads((out / "asset.json").read_text())
    assert manifest["figures"]["psnr"] > 15  # of 14 small noisy views; tests/gaussians says what fits reach
    assert manifest["request"]["prompt"] == "Ball"
    assert "source/transforms.json" in manifest["files"]  # so that it can be run again
    body = next(item for item in bpy.context.scene.objects if item.name == "Ball splats")
    points = np.empty(3 * len(body.data.vertices), np.float32)
    body.data.vertices.foreach_get("co", points)
    matrix = np.array(body.matrix_world)
    places = points.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.abs(np.median(places, 0) - (3, 1, 2)).max() < 0.1
    assert 0.3 < np.median(np.linalg.norm(places - (3, 1, 2), axis=1)) < 0.45  # the ball's radius is 0.4
    assert ball.name in bpy.context.scene.objects


def test_panel_shows_what_objects_need_and_what_is_missing(
    diorama: ModuleType, ball: bpy.types.Object
) -> None:
    drawn = draw(diorama.ui.panels.DIORAMA_PT_generate)
    assert {"source", "splats", "stand", "animated", "diorama.objects_to_splats"} <= set(drawn)
    assert not {"prompt", "model", "quality", "diorama.generate"} & set(drawn)
    assert not diorama.ui.panels.DIORAMA_PT_output.poll(bpy.context)
    assert draw(diorama.ui.object_operators.DIORAMA_PT_objects) == [
        "object_views",
        "object_size",
        "object_samples",
    ]
    bpy.ops.object.select_all(action="DESELECT")
    assert "Select the objects" in " ".join(draw(diorama.ui.panels.DIORAMA_PT_generate))
    with pytest.raises(RuntimeError, match="Select the objects"):
        bpy.ops.diorama.objects_to_splats()


def test_cancelled_renders_leave_nothing(diorama: ModuleType, ball: bpy.types.Object, tmp_path: Path) -> None:
    told: list[Any] = []
    shots = diorama.object_capture.Shots(1000, 512, 64, None)
    capture = diorama.object_capture.ObjectCapture(bpy.context, shots, tmp_path / "asset", told.append)
    copy = Path(capture._folder.name)
    assert copy.is_dir() and not capture.pump()
    capture.cancel()
    until = time.monotonic() + 30
    while not capture.pump() and time.monotonic() < until:
        time.sleep(0.05)
    assert capture.pump() and not told
    assert not copy.exists() and not (tmp_path / "asset").exists()


def test_what_cannot_be_seen_is_said(diorama: ModuleType, ball: bpy.types.Object, tmp_path: Path) -> None:
    ball.hide_render = True
    with pytest.raises(RuntimeError, match="nothing of the selected objects is visible"):
        bpy.ops.diorama.objects_to_splats(directory=str(tmp_path / "asset"))
    assert not (tmp_path / "asset").exists()


def test_animation_is_rendered_frame_by_frame(
    ball: bpy.types.Object, dataset_script: Path, tmp_path: Path
) -> None:
    """The script alone, in another process, on a saved file."""
    ball.keyframe_insert("location", frame=1)
    ball.location.x += 0.5
    ball.keyframe_insert("location", frame=5)
    bpy.context.scene.render.fps = 24
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    options = [
        "--out",
        tmp_path / "out",
        "--objects",
        "Ball",
        "--views",
        "4",
        "--size",
        "32",
        "--samples",
        "1",
    ]
    script = dataset_script.with_name("render_objects.py")
    command = [sys.executable, script, tmp_path / "scene.blend", *options, "--first", "1", "--last", "5"]
    done = subprocess.run([*map(str, command), "--step", "4"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Rendered view 8 of 8" in done.stdout
    data = json.loads((tmp_path / "out" / "transforms.json").read_text())
    assert data["fps"] == 6
    assert [(frame["view"], frame["time"]) for frame in data["frames"]] == [
        (view, time) for time in (0, 1) for view in range(4)
    ]
    positions = np.array([frame["transform_matrix"] for frame in data["frames"]])[:, :3, 3]
    assert np.abs(positions[:4] - positions[4:]).max() == 0  # the cameras stand still
    middle = positions.mean(0)
    assert middle[0] == pytest.approx(3.25, abs=0.2)
    assert all((tmp_path / "out" / frame["file_path"]).is_file() for frame in data["frames"])


def test_denoising_of_views_is_the_quick_one(extension: ModuleType) -> None:
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.denoising_prefilter = "CYCLES", "ACCURATE"
    around = extension.dataset.around
    around._prepare(32, around.DENOISED, extension.dataset.viewpoints.Frame(np.zeros(3), 1.0))
    assert scene.cycles.use_denoising and scene.cycles.denoising_prefilter == "FAST"
