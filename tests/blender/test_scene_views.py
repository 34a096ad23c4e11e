"""Views of what moves play with the splats, and are found with the .blend file that shows them."""

from __future__ import annotations

import os
import shutil

import bpy
import numpy as np
import pytest

from backend.shared.asset import write_asset
from tests.blender.scene_helpers import make_cloud, orbit, prepare, read_image, render

pytestmark = pytest.mark.usefixtures("nodes")


def write_moving(directory, green: float = 0.0, prompt: str = "a walk"):
    """Two views of three frames, the second of which is red."""
    views = np.zeros((2, 3, 8, 8, 4), np.float32)
    views[..., 3] = 1
    views[:, 1, ..., 0] = 1
    views[..., 1] = green
    write_asset(
        directory,
        request={"prompt": prompt, "seed": 1},
        model="starter",
        clouds=[make_cloud(20)] * 3,
        views=views,
        cameras=orbit(2),
        fov_deg=40.0,
        blending="linear",
        timings={},
    )
    return directory


def import_asset(extension, directory):
    return extension.scene.import_asset(bpy.context, directory, report=lambda change: None)


def images(extension, collection) -> list[bpy.types.Image]:
    cameras = extension.scene.view_cameras(collection)
    return [camera.data.background_images[0].image for camera in cameras]


@pytest.fixture
def walk(extension, tmp_path):
    """A moving result in the scene, made in a folder that is not the file's."""
    return import_asset(extension, write_moving(tmp_path / "data" / "a-walk-1"))


def save(path, **options):
    path.parent.mkdir(exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(path), **options)


def test_moving_asset_plays_splats_and_views(extension, tmp_path):
    directory = write_moving(tmp_path / "asset", prompt="a very long prompt, ö " * 20)
    collection = import_asset(extension, directory)
    scene = prepare(8, 8)
    (body,) = extension.scene.splat_objects(collection)
    assert len(extension.scene.sequences.frame_objects(body)) == 3
    camera = extension.scene.view_cameras(collection)[0]
    (picture,) = (item for item in camera.children)
    body.hide_render, picture.hide_render = True, False
    scene.camera = camera
    scene.render.fps = 24  # three times those of the asset
    for frame, red in ((1, 0), (3, 0), (4, 1), (7, 0), (13, 1)):
        scene.frame_set(frame)
        assert render(tmp_path)[4, 4, 0] == pytest.approx(red, abs=1e-3)


def test_views_on_another_drive_than_the_file_are_found(extension, tmp_path, monkeypatch):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))

    def on_windows(path, start=None):
        raise ValueError(f"path is on mount 'C:', start on mount 'D:': {path}")

    monkeypatch.setattr("os.path.relpath", on_windows)
    first, _ = images(extension, import_asset(extension, write_moving(tmp_path / "asset")))
    assert first.filepath == str(tmp_path / "asset/views/v00_f0000.png")


def test_saved_file_has_the_views_of_what_moves_beside_it(walk, tmp_path):
    """Elsewhere, without the asset, they still play."""
    save(tmp_path / "work" / "scene.blend")
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "work").rename(tmp_path / "farm")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "farm" / "scene.blend"))
    scene = prepare(8, 8)
    (picture,) = (item for item in bpy.data.objects if item.name == "a walk picture 1")
    for item in bpy.data.objects:
        item.hide_render = item is not picture
    scene.camera = picture.parent
    scene.render.fps = 8
    for frame, red in ((1, 0), (2, 1), (3, 0)):
        scene.frame_set(frame)
        assert render(tmp_path)[4, 4, 0] == pytest.approx(red, abs=1e-3)


def test_views_follow_a_file_that_is_saved_elsewhere(extension, walk, tmp_path):
    save(tmp_path / "first" / "scene.blend")
    shutil.rmtree(tmp_path / "data")
    save(tmp_path / "second" / "scene.blend")
    assert {image.filepath for image in images(extension, walk)} == {
        f"//views/a-walk-1/v{view:02d}_f0000.png" for view in (0, 1)
    }
    assert len(list((tmp_path / "second/views/a-walk-1").iterdir())) == 6


def test_saved_copy_has_its_views_and_the_open_file_stays_as_it_was(extension, walk, tmp_path):
    save(tmp_path / "work" / "scene.blend")
    before = [image.filepath for image in images(extension, walk)]
    save(tmp_path / "copy" / "scene.blend", copy=True)
    assert [image.filepath for image in images(extension, walk)] == before
    with bpy.data.libraries.load(str(tmp_path / "copy/scene.blend")) as (there, loaded):
        loaded.images = [name for name in there.images if name.startswith("a walk view")]
    found = {os.path.abspath(bpy.path.abspath(image.filepath)) for image in loaded.images}
    assert found == {str(tmp_path / f"copy/views/a-walk-1/v{view:02d}_f0000.png") for view in (0, 1)}


def test_two_results_of_one_name_keep_their_own_views(extension, tmp_path):
    both = [
        images(extension, import_asset(extension, write_moving(tmp_path / name / "asset", green)))
        for name, green in (("one", 0.0), ("two", 1.0))
    ]
    save(tmp_path / "work" / "scene.blend")
    for (first, _), green in zip(both, (0.0, 1.0), strict=True):
        assert read_image(bpy.path.abspath(first.filepath))[4, 4, 1] == pytest.approx(green, abs=1e-2)
    assert sorted(path.name for path in (tmp_path / "work/views").iterdir()) == ["asset", "asset-2"]


def test_assets_and_sequences_beside_the_file_are_left_alone(extension, tmp_path):
    first, _ = images(extension, import_asset(extension, write_moving(tmp_path / "asset")))
    outside = tmp_path / "plates" / "f0001.png"
    outside.parent.mkdir()
    shutil.copy(tmp_path / "asset/views/v00_f0000.png", outside)
    plate = bpy.data.images.load(str(outside))
    plate.source = "SEQUENCE"
    save(tmp_path / "scene.blend")
    assert first.filepath == "//asset/views/v00_f0000.png"
    save(tmp_path / "work" / "scene.blend", copy=True)
    assert not (tmp_path / "work/views/plates").exists()
    assert bpy.path.abspath(plate.filepath) == str(outside)


def test_a_file_that_cannot_be_saved_changes_nothing(extension, walk, tmp_path):
    before = [image.filepath for image in images(extension, walk)]
    if bpy.app.version >= (4, 5):  # before, Blender gives such a folder another name, and saves
        (tmp_path / "scene.blend").mkdir()
        with pytest.raises(RuntimeError):
            bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    assert [image.filepath for image in images(extension, walk)] == before
    with pytest.raises(RuntimeError):
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "nowhere" / "scene.blend"))
    assert not (tmp_path / "nowhere").exists()
