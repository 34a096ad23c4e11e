"""A result stands on the ground at the 3D cursor, beside what is there, and is one thing with its views."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Vector

from backend.shared.asset import write_asset
from tests.blender.scene_helpers import make_cloud, orbit


def write(folder: Path, frames: int = 1, **settings) -> Path:
    """An asset of a ball of splats 1.6 m wide around (0.2, 0, 0.5), with one stray far away."""
    cloud = make_cloud(400)
    directions = np.random.default_rng(0).normal(size=(400, 3))
    means = 0.8 * directions / np.linalg.norm(directions, axis=1, keepdims=True) + (0.2, 0.0, 0.5)
    means[0] = (0, 0, -9)
    means = means.astype(np.float32)
    cloud = replace(cloud, means=means, scales=np.full_like(means, 1e-3))
    return write_asset(
        folder,
        request={"prompt": "a ball", "seed": 3},
        model="starter",
        clouds=[replace(cloud, means=means + np.float32(0.01 * i)) for i in range(frames)],
        views=np.full((2, frames, 8, 8, 3), 0.5),
        cameras=orbit(2),
        fov_deg=40.0,
        blending="linear",
        timings={},
        **settings,
    )


@pytest.fixture(scope="module")
def ball(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("ball"))


def bring_in(extension, folder: Path, **place) -> bpy.types.Object:
    """The root of an imported result."""
    collection = extension.scene.import_asset(bpy.context, folder, report=lambda change: None, **place)
    return extension.scene.result_root(collection)


def world_box(extension, root: bpy.types.Object) -> tuple[np.ndarray, np.ndarray]:
    """Of its splats but the stray."""
    (body,) = extension.scene.hierarchy.parts(root, "splats")
    matrix = np.array(body.matrix_world)
    means = extension.scene.splats.positions(body.data)[1:] @ matrix[:3, :3].T + matrix[:3, 3]
    return means.min(axis=0), means.max(axis=0)


def test_result_stands_on_the_ground_at_the_cursor_as_large_as_asked_for(extension, ball):
    bpy.context.scene.cursor.location = (3, -2, 0.5)
    low, high = world_box(extension, bring_in(extension, ball, size=0.4))
    np.testing.assert_allclose((high - low).max(), 0.4, rtol=0.03)
    np.testing.assert_allclose((low + high)[:2] / 2, (3, -2), atol=0.01)
    assert low[2] == pytest.approx(0.5, abs=0.01)


def test_results_stand_beside_the_cube_and_beside_each_other(extension, ball):
    bpy.ops.mesh.primitive_cube_add(size=2)
    bpy.ops.mesh.primitive_plane_add(size=50)  # a floor is stood on
    boxes = [(np.full(3, -1.0), np.full(3, 1.0))]
    boxes += [world_box(extension, bring_in(extension, ball)) for _ in range(3)]
    for one, other in itertools.pairwise(boxes):
        assert other[0][0] - one[1][0] == pytest.approx(0.1, abs=0.03)
        assert other[0][2] == pytest.approx(0, abs=0.02)
    assert boxes[-1][1][0] < 4.6


def test_what_is_hidden_or_a_room_is_not_stood_beside(extension, ball):
    bpy.ops.mesh.primitive_cube_add(size=2)
    bpy.context.object.hide_set(True)
    bpy.ops.mesh.primitive_cube_add(size=20)
    root = bring_in(extension, ball)
    assert root.location.x == 0


def test_a_place_that_is_given_is_taken(extension, ball):
    bpy.ops.mesh.primitive_cube_add(size=2)
    result = bpy.ops.diorama.import_asset(directory=str(ball), location=(0, 0, 1), rotation=np.pi / 2, size=2)
    assert result == {"FINISHED"}
    root = extension.scene.hierarchy.root_of(bpy.context.object)
    low, high = world_box(extension, root)
    np.testing.assert_allclose((low + high) / 2, (0, 0, 2), atol=0.05)
    (body,) = extension.scene.hierarchy.parts(root, "splats")
    front = body.matrix_world.to_3x3() @ Vector((1, 0, 0))  # of the asset; turned by a quarter from -Y
    np.testing.assert_allclose(front.normalized(), (1, 0, 0), atol=1e-5)


def test_result_is_selected_and_active_and_its_cameras_are_hidden(extension, ball):
    bpy.ops.mesh.primitive_cube_add(location=(9, 9, 0))
    root = bring_in(extension, ball)
    (body,) = extension.scene.hierarchy.parts(root, "splats")
    assert set(bpy.context.selected_objects) == {root, body} and bpy.context.object == body
    hidden = extension.scene.hierarchy.parts(root, "camera", "orbit", "image")
    assert len(hidden) == 5 and all(item.hide_viewport for item in hidden)


def test_import_leaves_edit_mode_alone(extension, ball):
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.object.mode_set(mode="EDIT")
    bring_in(extension, ball)
    assert bpy.context.object.name == "Cube" and bpy.context.mode == "EDIT_MESH"


def test_copies_get_what_is_hidden_and_take_it_along_when_they_are_deleted(extension, ball):
    scene, whole = extension.scene, extension.scene.whole
    first = bring_in(extension, ball)
    whole.settle()
    bpy.ops.object.duplicate()
    whole.settle()
    copy = scene.hierarchy.root_of(bpy.context.object)
    kinds = [sorted(part["diorama_part"] for part in scene.hierarchy.parts(root)) for root in (first, copy)]
    assert copy != first and kinds[0] == kinds[1]
    bpy.ops.object.delete()
    whole.settle()
    assert set(bpy.context.scene.objects) == {first, *scene.hierarchy.parts(first)}


def test_a_camera_that_was_taken_out_outlives_its_result(extension, ball):
    root = bring_in(extension, ball)
    camera = extension.scene.hierarchy.parts(root, "camera")[0]
    camera.hide_viewport = False
    camera.parent = None
    extension.scene.whole.settle()
    bpy.ops.object.delete()
    extension.scene.whole.settle()
    assert set(bpy.context.scene.objects) == {camera, *camera.children}


def test_what_of_a_result_is_shown_can_be_chosen(extension, ball):
    root = bring_in(extension, ball)
    (body,) = extension.scene.hierarchy.parts(root, "splats")
    assert root.diorama_show == "SPLATS" and not root.diorama_show_cameras
    assert bpy.ops.diorama.splats_to_mesh(cells=24) == {"FINISHED"}
    mesh = bpy.context.object
    assert root.diorama_show == "MESH" and body.hide_render and not mesh.hide_render
    assert len(mesh.data.polygons) > 50 and mesh.data.color_attributes[0].name == "Color"
    root.diorama_show = "BOTH"
    assert not body.hide_viewport and not mesh.hide_viewport
    root.diorama_show_cameras = True
    assert not any(item.hide_viewport for item in extension.scene.hierarchy.parts(root, "camera", "orbit"))


def test_mesh_is_as_large_as_the_splats_look(extension):
    rng = np.random.default_rng(0)
    means = rng.normal(size=(4000, 3))
    means *= 0.5 / np.linalg.norm(means, axis=1, keepdims=True)
    count = len(means)
    cloud = extension.backend.shared.ply.GaussianCloud(
        means=means.astype(np.float32),
        scales=np.full((count, 3), 0.012, np.float32),
        quats=np.tile(np.float32([1, 0, 0, 0]), (count, 1)),
        opacities=np.full(count, 0.95, np.float32),
        sh=np.zeros((count, 1, 3), np.float32),
    )
    splats = extension.scene.splats
    body = splats.splat_object("ball", splats.splat_mesh("ball", cloud), "srgb")
    bpy.context.scene.collection.objects.link(body)
    mesh = extension.scene.to_mesh.mesh_of(body, 96)
    places = np.empty(3 * len(mesh.data.vertices), np.float32)
    mesh.data.vertices.foreach_get("co", places)
    radii = np.linalg.norm(places.reshape(-1, 3), axis=1)
    assert np.median(radii) == pytest.approx(0.5, rel=0.03)


def test_motion_keeps_its_speed_and_can_take_the_scenes_range(extension, tmp_path):
    root = bring_in(extension, write(tmp_path, frames=4, tracked=True, fps=8.0))
    (body,) = extension.scene.hierarchy.parts(root, "splats")
    scene, modifier = bpy.context.scene, body.modifiers["Diorama Sequence"]

    def shown() -> float:
        get = extension.scene.modifier_inputs.get_input
        return get(modifier, "Frame") * get(modifier, "Speed")

    for fps in (24, 60):
        scene.render.fps = fps
        scene.frame_set(1 + fps // 4)  # a quarter of a second
        assert shown() == pytest.approx(2)
    scene.frame_start, scene.frame_end = 11, 30
    assert bpy.ops.diorama.match_range() == {"FINISHED"}
    scene.frame_set(11)
    assert shown() == pytest.approx(0)
    scene.frame_set(31)
    assert shown() == pytest.approx(4, rel=1e-5)


def crop_state(extension, body: bpy.types.Object) -> tuple[bool, bpy.types.Object | None]:
    modifier = extension.scene.splats.splat_modifier(body)
    get = extension.scene.modifier_inputs.get_input
    return bool(get(modifier, "Crop")), get(modifier, "Crop Object")


def test_a_crop_ends_when_its_box_is_deleted(extension, ball):
    bring_in(extension, ball)
    body = bpy.context.object
    assert bpy.ops.diorama.crop_splats() == {"FINISHED"}
    assert crop_state(extension, body) == (True, bpy.context.object)
    bpy.ops.object.delete()
    bpy.context.view_layer.update()
    assert crop_state(extension, body) == (False, None)


def test_a_crop_is_applied_or_removed(extension, ball):
    bring_in(extension, ball)
    body = bpy.context.object
    assert bpy.ops.diorama.crop_splats() == {"FINISHED"}
    assert bpy.ops.diorama.remove_crop() == {"FINISHED"}
    assert crop_state(extension, body) == (False, None) and len(body.data.vertices) == 400
    assert bpy.ops.diorama.crop_splats() == {"FINISHED"}
    box = bpy.context.object
    box.location = body.matrix_world @ body.data.vertices[0].co  # about the stray alone
    box.scale *= 0.02
    bpy.context.view_layer.update()
    extension.scene.modifier_inputs.set_inputs(extension.scene.splats.splat_modifier(body), Crop=False)
    with pytest.raises(RuntimeError, match="crop is off"):  # it would delete none, and the box
        bpy.ops.diorama.apply_crop()
    extension.scene.modifier_inputs.set_inputs(extension.scene.splats.splat_modifier(body), Crop=True)
    assert bpy.ops.diorama.apply_crop() == {"FINISHED"}
    assert len(body.data.vertices) == 1 and not [each for each in bpy.data.objects if "crop" in each.name]


def test_clean_up_takes_the_stray_and_can_be_undone(extension, ball):
    bpy.ops.diorama.import_asset(directory=str(ball))
    name = bpy.context.object.name
    bpy.context.object.data.attributes["opacity"].data.foreach_set("value", np.full(400, 0.9, np.float32))
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.diorama.clean_up(opacity=0.0, distance=0.2) == {"FINISHED"}
    bpy.ops.ed.undo_push(message="clean up")
    body = bpy.data.objects[name]
    assert len(body.data.vertices) == 399
    assert min(vertex.co.z for vertex in body.data.vertices) > -1
    bpy.ops.ed.undo()
    assert len(bpy.data.objects[name].data.vertices) == 400


def test_what_cannot_be_done_says_why(extension, ball):
    for operator, reason in (
        (bpy.ops.diorama.clean_up, "Select a splat object"),
        (bpy.ops.diorama.match_range, "Select splats that move"),
    ):
        with pytest.raises(RuntimeError, match=reason):
            operator()
    bring_in(extension, ball)
    with pytest.raises(RuntimeError, match="have no crop"):
        bpy.ops.diorama.apply_crop()
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(RuntimeError, match="Go to Object Mode"):
        bpy.ops.diorama.clean_up()


@pytest.mark.parametrize(("place", "x"), [("MADE", 0.2), ("BESIDE", 1.96)])
def test_what_was_made_of_objects_keeps_its_size_and_place(extension, tmp_path, place, x):
    folder = write(tmp_path, front="-Y")
    bpy.ops.mesh.primitive_ico_sphere_add(radius=0.8, location=(0.2, 0, 0.5))
    low, high = world_box(extension, bring_in(extension, folder, place=place))
    np.testing.assert_allclose((low + high) / 2, (x, 0, 0.5), atol=0.1)
    np.testing.assert_allclose(high - low, 1.6, atol=0.03)


def test_what_is_linked_or_overridden_is_worked_on_beside_it_or_says_why(extension, ball, tmp_path):
    root = bring_in(extension, ball)
    name = root.users_collection[0].name
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "other.blend"))
    bpy.ops.wm.read_homefile(use_factory_startup=False)
    scene, layer = bpy.context.scene, bpy.context.view_layer
    with bpy.data.libraries.load(str(tmp_path / "other.blend"), link=True) as (_, linked):
        linked.collections = [name]
    (collection,) = linked.collections
    scene.collection.children.link(collection)
    (body,) = extension.scene.splat_objects(collection)
    layer.objects.active = body
    with pytest.raises(RuntimeError, match="Linked splats keep no crop"):
        bpy.ops.diorama.crop_splats()
    with pytest.raises(RuntimeError, match="linked from another file"):
        bpy.ops.diorama.mark_asset()
    own = collection.override_hierarchy_create(scene, layer)
    (body,) = extension.scene.splat_objects(own)
    layer.objects.active = body
    with pytest.raises(RuntimeError, match="linked from another file"):
        bpy.ops.diorama.mark_asset()
    assert bpy.ops.diorama.splats_to_mesh(cells=24) == {"FINISHED"}
    assert layer.objects.active.name in scene.collection.objects  # the overridden collection takes nothing
