"""An imported asset is whole, exact and polite: the artist's scene keeps its settings, or is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from backend.shared.asset import write_asset
from backend.shared.protocol import DioramaError
from tests.blender.scene_helpers import add_camera, make_cloud, orbit, pixel_size, prepare, render, render_png
from tests.blender.splat_reference import linear_to_srgb, psnr, srgb_to_linear
from tests.blender.splat_reference import render as reference

SIZE, FOV, VIEWS = 64, 42.0, 4


@pytest.fixture(scope="module")
def asset_folder(tmp_path_factory) -> Path:
    """A true asset: its views are the reference's renders of its splats."""
    cloud, cameras = make_cloud(), orbit(VIEWS)
    views = [reference(cloud, pose, SIZE, SIZE, pixel=pixel_size(FOV, SIZE)) for pose in cameras]
    return write_asset(
        tmp_path_factory.mktemp("asset"),
        request={"prompt": "a red mushroom", "seed": 3},
        model="starter",
        clouds=[cloud],
        views=linear_to_srgb(np.stack(views))[:, None],
        cameras=cameras,
        fov_deg=FOV,
        blending="linear",
        timings={},
    )


def scene_state() -> dict:
    """Everything an import could disturb."""
    scene = bpy.context.scene
    kinds = ("objects", "collections", "meshes", "cameras", "images", "materials", "node_groups", "actions")
    return {
        **{kind: sorted(item.name for item in getattr(bpy.data, kind)) for kind in kinds},
        "settings": (scene.frame_start, scene.frame_end, scene.frame_current, scene.camera),
        "cycles": (scene.cycles.transparent_max_bounces, scene.cycles.min_transparent_bounces),
        "view": (scene.view_settings.view_transform, scene.render.resolution_x, scene.render.engine),
        "markers": len(scene.timeline_markers),
    }


def test_splats_with_display_blending_are_in_their_asset_and_on_the_layer_of_their_own(
    extension, nodes, tmp_path
):
    cloud, pose = make_cloud(20), orbit(1)
    write_asset(
        tmp_path,
        request={"prompt": "a red mushroom", "seed": 3},
        model="mvdream-lgm",
        clouds=[cloud],
        views=np.ones((1, 1, 8, 8, 3)),
        cameras=pose,
        fov_deg=FOV,
        blending="display",
        timings={},
    )
    collection = extension.scene.import_asset(bpy.context, tmp_path, report=lambda change: None)
    (body,) = extension.scene.splat_objects(collection)
    (home,) = body.users_collection
    assert home.name == "Display Splats" and home in list(collection.children)
    for layer, held_out in zip(bpy.context.scene.view_layers, (False, True), strict=True):
        asset = layer.layer_collection.children[collection.name]
        assert asset.holdout is held_out and asset.children[home.name].holdout is not held_out
    assert extension.headless._moments(collection) == [bpy.context.scene.frame_current]


@pytest.fixture
def collection(extension, nodes, asset_folder):
    return extension.scene.import_asset(bpy.context, asset_folder, report=lambda change: None)


def test_collection_holds_everything_and_says_where_it_came_from(extension, collection):
    assert collection.name == "a red mushroom"
    assert collection.name in bpy.context.scene.collection.children
    objects = list(collection.all_objects)
    assert sum(item.type == "CAMERA" for item in objects) == VIEWS + 1
    assert len(extension.scene.splat_objects(collection)) == 1
    roots = [item for item in objects if item.parent is None]
    assert [root.type for root in roots] == ["EMPTY"]
    for item in objects:
        assert (item["prompt"], item["seed"], item["model"]) == ("a red mushroom", 3, "starter")


def test_every_camera_sees_the_view_it_shows(extension, collection, tmp_path):
    scene = prepare(SIZE, SIZE)
    scene.view_settings.view_transform = "Standard"
    for camera in extension.scene.view_cameras(collection):
        scene.camera = camera
        (background,) = camera.data.background_images
        pixels = np.array(background.image.pixels[:]).reshape(SIZE, SIZE, -1)[::-1, :, :3]
        assert background.image.packed_file
        assert psnr(render_png(tmp_path), pixels) > 50


def test_finer_renders_keep_the_softness_of_the_views(extension, collection, tmp_path):
    """Splats are made through pixels; smaller pixels must not let holes open between them."""
    scene = prepare(4 * SIZE, 4 * SIZE)
    scene.view_settings.view_transform = "Standard"
    camera = extension.scene.view_cameras(collection)[1]
    scene.camera = camera
    pixels = np.array(camera.data.background_images[0].image.pixels[:]).reshape(SIZE, SIZE, -1)[::-1, :, :3]
    (splats,) = extension.scene.splat_objects(collection)

    def difference() -> float:
        fine = srgb_to_linear(render_png(tmp_path)).reshape(SIZE, 4, SIZE, 4, 3)
        return psnr(linear_to_srgb(fine.mean(axis=(1, 3))), pixels)

    soft = difference()
    extension.scene.modifier_inputs.set_inputs(splats.modifiers[0], Detail=0.0)
    crisp = difference()
    assert soft > crisp + 3
    assert soft > 35


def test_travelling_camera_has_every_pose_and_lens(extension, collection):
    scene = bpy.context.scene
    orbit_camera = extension.scene.orbit_camera(collection)
    for view, camera in enumerate(extension.scene.view_cameras(collection)):
        scene.frame_set(1 + 10 * view)
        difference = np.array(orbit_camera.matrix_world) - np.array(camera.matrix_world)
        assert np.abs(difference).max() < 1e-5
        assert orbit_camera.data.lens == pytest.approx(camera.data.lens, abs=1e-5)


def test_wide_render_shows_all_of_a_square_view(extension, collection, tmp_path):
    camera = extension.scene.view_cameras(collection)[0]
    square = np.array(camera.data.background_images[0].image.pixels[:]).reshape(SIZE, SIZE, -1)[::-1, :, :3]
    scene = prepare(2 * SIZE, SIZE)
    scene.view_settings.view_transform = "Standard"
    scene.camera = camera
    assert psnr(render_png(tmp_path)[:, SIZE // 2 : -SIZE // 2], square) > 50


def test_front_of_the_asset_faces_blenders_front_view(extension, asset_folder, collection):
    turned = np.array(extension.scene.splat_objects(collection)[0].matrix_world)
    front = turned[:3, :3] @ [1, 0, 0]
    np.testing.assert_allclose(front / np.linalg.norm(front), [0, -1, 0], atol=1e-6)
    first = extension.scene.view_cameras(collection)[0]
    np.testing.assert_allclose(turned @ orbit(VIEWS)[0], np.array(first.matrix_world), atol=1e-5)


def test_pictures_stand_in_view_and_are_hidden(collection, tmp_path):
    pictures = [item for item in collection.all_objects if "picture" in item.name]
    assert len(pictures) == VIEWS
    assert all(item.hide_render and item.hide_viewport for item in pictures)
    scene = prepare(SIZE, SIZE)
    scene.view_settings.view_transform = "Standard"
    for item in list(collection.all_objects):
        item.hide_render = item is not pictures[1]
    scene.camera = pictures[1].parent
    shown = scene.camera.data.background_images[0].image
    pixels = np.array(shown.pixels[:]).reshape(SIZE, SIZE, -1)[::-1, :, :3]
    assert psnr(render_png(tmp_path), pixels) > 40


def test_only_what_is_needed_changes_and_is_reported(extension, asset_folder):
    own_camera = add_camera(orbit(1)[0])
    before = scene_state()
    changes: list[str] = []
    extension.scene.import_asset(bpy.context, asset_folder, report=changes.append)
    after = scene_state()
    assert bpy.context.scene.camera == own_camera
    assert after["cycles"] == (256, 256) and before["cycles"] == (8, 0)
    assert len(changes) == 2 and all("256" in change for change in changes)
    for unchanged in ("settings", "view", "markers"):
        assert after[unchanged] == before[unchanged]


def test_frame_range_and_markers_on_request(nodes, asset_folder):
    result = bpy.ops.diorama.import_asset(directory=str(asset_folder), frame_range=True, markers=True)
    assert result == {"FINISHED"}
    scene = bpy.context.scene
    assert (scene.frame_start, scene.frame_end) == (1, 31)
    assert [marker.frame for marker in scene.timeline_markers] == [1, 11, 21, 31]


def test_prepare_render_reports_every_change_once(extension, collection):
    scene = bpy.context.scene
    scene.view_settings.view_transform = "AgX"
    orbit_camera = extension.scene.orbit_camera(collection)
    scene.camera = None
    changes = extension.scene.prepare_render(scene, orbit_camera)
    assert changes == ["View Transform AgX → Standard", f"Camera none → {orbit_camera.name}"]
    assert extension.scene.prepare_render(scene, orbit_camera) == []


def test_same_folder_twice_gives_the_same_objects_and_shares_nodes(extension, asset_folder, collection):
    again = extension.scene.import_asset(bpy.context, asset_folder, report=lambda change: None)
    first, second = (extension.scene.splat_objects(item)[0] for item in (collection, again))
    assert first.modifiers[0].node_group == second.modifiers[0].node_group
    one, two = (extension.scene.splats.splats_of(item) for item in (first, second))
    for name, values in vars(one).items():
        np.testing.assert_array_equal(values, getattr(two, name))
    one, two = (
        [
            tuple(item.matrix_basis.row[0]) for item in each.all_objects if item.parent
        ]  # their root is elsewhere
        for each in (collection, again)
    )
    assert one == two


def test_one_undo_takes_it_all_away(extension, asset_folder):
    bpy.ops.ed.undo_push(message="before")
    before = scene_state()
    assert bpy.ops.diorama.import_asset(directory=str(asset_folder)) == {"FINISHED"}
    bpy.ops.ed.undo_push(message="import")
    assert scene_state() != before
    bpy.ops.ed.undo()
    assert scene_state() == before


@pytest.mark.parametrize("damage", ["asset.json", "splats/0000.ply", "views/v02_f0000.png"])
def test_damaged_asset_leaves_the_scene_alone(extension, asset_folder, tmp_path, damage):
    for path in asset_folder.rglob("*.*"):
        copy = tmp_path / path.relative_to(asset_folder)
        copy.parent.mkdir(exist_ok=True)
        if path.name != Path(damage).name:
            copy.write_bytes(path.read_bytes())
    before = scene_state()
    with pytest.raises(DioramaError if damage else Exception, match="missing"):
        _ours(extension, lambda: extension.scene.import_asset(bpy.context, tmp_path))
    assert scene_state() == before


def test_failure_half_way_leaves_the_scene_alone(extension, asset_folder, monkeypatch):
    def fail(*_arguments: object) -> None:
        raise MemoryError

    before = scene_state()
    monkeypatch.setattr(extension.scene.assets.views, "picture", fail)
    with pytest.raises(MemoryError):
        extension.scene.import_asset(bpy.context, asset_folder)
    assert scene_state() == before


def test_operator_says_what_is_wrong(extension, tmp_path):
    with pytest.raises(RuntimeError, match=r"E_ASSET.*asset.json is missing"):
        bpy.ops.diorama.import_asset(directory=str(tmp_path))


def test_saved_file_renders_the_same_without_the_extension(extension, collection, tmp_path):
    scene = prepare(SIZE, SIZE)
    scene.camera = extension.scene.view_cameras(collection)[2]
    here = render(tmp_path)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    script = (
        "import bpy, sys\n"
        "bpy.ops.wm.open_mainfile(filepath=sys.argv[1])\n"
        "assert not hasattr(bpy.types.Scene, 'diorama')\n"
        "bpy.context.scene.render.filepath = sys.argv[2]\n"
        "bpy.ops.render.render(write_still=True)\n"
    )
    paths = [str(tmp_path / "scene.blend"), str(tmp_path / "render.exr")]
    (tmp_path / "render.exr").unlink()
    farm = {"BLENDER_USER_RESOURCES": str(tmp_path), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script, *paths], check=True, env=farm, capture_output=True)
    image = bpy.data.images.load(paths[1])
    image.colorspace_settings.name = "Non-Color"
    there = np.array(image.pixels[:], np.float32).reshape(SIZE, SIZE, -1)[::-1, :, :3]
    np.testing.assert_array_equal(here, there)


def _ours(extension, action) -> None:
    """The extension has its own copy of the backend's classes: raise its errors as the tests' own."""
    try:
        action()
    except extension.backend.shared.protocol.DioramaError as error:
        raise DioramaError(error.code, error.message) from error


def test_panel_lists_what_keeps_colours_from_being_right(extension, collection):
    scene = bpy.context.scene
    scene.view_settings.view_transform = "AgX"
    scene.cycles.transparent_max_bounces = 8
    obstacles = extension.scene.render.obstacles
    assert obstacles(scene) == [
        "Transparent Max Bounces is 8",
        "View Transform is AgX: paler",
    ]
    assert bpy.ops.diorama.prepare_render() == {"FINISHED"}
    assert obstacles(scene) == []


def test_import_works_where_cycles_is_switched_off(extension, nodes, asset_folder):
    bpy.ops.preferences.addon_disable(module="cycles")
    try:
        collection = extension.scene.import_asset(bpy.context, asset_folder, report=lambda change: None)
        assert extension.scene.splat_objects(collection)
    finally:
        bpy.ops.preferences.addon_enable(module="cycles")


@pytest.mark.parametrize("link", [True, False])
def test_linked_or_appended_collection_renders_the_same(extension, collection, tmp_path, link):
    scene = prepare(SIZE, SIZE)
    scene.camera = extension.scene.view_cameras(collection)[2]
    pose, fov = np.array(scene.camera.matrix_world), np.degrees(scene.camera.data.angle)
    here = render(tmp_path)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "asset.blend"))
    bpy.ops.wm.read_homefile(use_empty=True)
    with bpy.data.libraries.load(str(tmp_path / "asset.blend"), link=link) as (_, loaded):
        loaded.collections = ["a red mushroom"]
    scene = prepare(SIZE, SIZE)
    scene.collection.children.link(loaded.collections[0])
    extension.scene.prepare_render(scene)
    scene.view_settings.view_transform = "Raw"
    add_camera(pose, fov)
    assert psnr(render(tmp_path), here) > 60
