"""What import does to the rest of the scene: nothing that is not said, and no other pixel."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import bpy
import numpy as np
import pytest

from backend.shared.ply import write_ply
from tests.blender import scene_helpers
from tests.blender.scene_helpers import make_cloud


@pytest.fixture
def splats(nodes: None, tmp_path: Path) -> str:
    """A file of splats."""
    write_ply(tmp_path / "a.ply", make_cloud(30))
    return str(tmp_path / "a.ply")


def test_other_objects_render_to_the_same_pixels(splats: str, tmp_path: Path) -> None:
    bpy.ops.mesh.primitive_monkey_add(location=(0, 0, -2))  # directly in the scene
    inside = bpy.data.collections.new("inside")
    bpy.context.scene.collection.children.link(inside)
    bpy.ops.mesh.primitive_cube_add(size=0.5, location=(0.8, 0.8, 0))
    inside.objects.link(bpy.context.object)
    bpy.context.scene.collection.objects.unlink(bpy.context.object)
    bpy.ops.object.light_add(type="SUN", rotation=(0.4, 0.3, 0))
    pose = np.eye(4)
    pose[2, 3] = 4
    scene_helpers.add_camera(pose)
    scene_helpers.prepare(24, 24)
    before = scene_helpers.render_png(tmp_path)
    bpy.ops.diorama.import_splats(filepath=splats, blending="DISPLAY")
    body = bpy.context.view_layer.objects.active
    body.location.x = 50  # the splats themselves are elsewhere
    differs = np.abs(scene_helpers.render_png(tmp_path) - before).max(axis=-1) > 1.5 / 255
    assert differs.sum() <= 2  # of 576: with one more object, Cycles draws other numbers for its one ray
    assert before.max() > 0.2


def test_splats_of_one_scene_are_not_composited_in_another(splats: str) -> None:
    if bpy.app.version < (5, 0) or hasattr(bpy.context.scene, "compositor_effects"):
        pytest.skip("before 5.0, no two scenes share their compositing nodes")
    shared = bpy.data.node_groups.new("shared", "CompositorNodeTree")
    bpy.context.scene.compositing_node_group = shared
    other = bpy.context.scene.copy()
    count = len(shared.nodes)
    with bpy.context.temp_override(scene=other, view_layer=other.view_layers[0]):
        bpy.ops.diorama.import_splats(filepath=splats, blending="DISPLAY")
    assert len(shared.nodes) == count
    assert other.compositing_node_group != shared


@pytest.mark.parametrize(
    ("owner", "name", "value", "words"),
    [
        ("view_settings", "exposure", 1.0, "Exposure is 1.0"),
        ("view_settings", "gamma", 2.0, "Gamma is 2.0"),
        ("view_settings", "use_curve_mapping", True, "Curves is on"),
        ("cycles", "film_exposure", 2.0, "Cycles Film Exposure is 2.0"),
        ("render", "use_compositing", False, "Post Processing > Compositing is off"),
    ],
)
def test_what_changes_colours_is_said_and_can_be_set(
    extension: ModuleType, splats: str, owner: str, name: str, value: object, words: str
) -> None:
    bpy.ops.diorama.import_splats(filepath=splats, blending="DISPLAY")
    scene = bpy.context.scene
    extension.scene.prepare_render(scene)
    assert not extension.scene.render.obstacles(scene)
    setattr(getattr(scene, owner), name, value)
    assert extension.scene.render.obstacles(scene) == [words]
    extension.scene.prepare_render(scene)
    assert not extension.scene.render.obstacles(scene)


def test_only_selected_has_the_lamps_of_the_artists_own_render(extension: ModuleType) -> None:
    scene = bpy.context.scene

    def lamp(name: str, parent: bpy.types.Collection) -> bpy.types.Object:
        item = bpy.data.objects.new(name, bpy.data.lights.new(name, "SUN"))
        parent.objects.link(item)
        return item

    homes = {}
    for name in ("excluded", "not rendered", "held out", "indirect"):
        homes[name] = bpy.data.collections.new(name)
        scene.collection.children.link(homes[name])
        lamp(name, homes[name])
    layers = bpy.context.view_layer.layer_collection.children
    layers["excluded"].exclude = True
    homes["not rendered"].hide_render = True
    layers["held out"].holdout = True
    layers["indirect"].indirect_only = True
    lamp("on", scene.collection)
    lamp("off", scene.collection).hide_render = True
    camera = scene_helpers.add_camera(np.eye(4))
    collections = len(bpy.data.collections)
    copy = scene.copy()
    extension.capture._show_only(copy, bpy.context.view_layer, camera, set())
    layer = copy.view_layers[0]
    layer.update()
    assert {item.name for item in layer.objects} == {"on", "held out", "indirect", "camera"}
    assert layer.objects["held out"].holdout_get(view_layer=layer)
    assert layer.objects["indirect"].indirect_only_get(view_layer=layer)
    extension.capture._remove(copy, extension.capture._viewers())
    assert len(bpy.data.collections) == collections


def test_crop_says_why_it_cannot(splats: str, tmp_path: Path) -> None:
    bpy.ops.diorama.import_splats(filepath=splats, blending="LINEAR")
    bpy.ops.object.mode_set(mode="EDIT")
    assert bpy.ops.diorama.crop_splats() == {"FINISHED"}
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "library.blend"))
    bpy.ops.wm.read_homefile(use_empty=True)
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (_, there):
        there.objects = ["a"]
    bpy.context.scene.collection.objects.link(there.objects[0])
    bpy.context.view_layer.objects.active = there.objects[0]
    with pytest.raises(RuntimeError, match="Linked splats keep no crop"):
        bpy.ops.diorama.crop_splats()
    bpy.ops.diorama.import_splats(filepath=splats, blending="LINEAR")
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.mesh.delete(type="VERT")
    bpy.ops.object.mode_set(mode="OBJECT")
    with pytest.raises(RuntimeError, match="has no splats left"):
        bpy.ops.diorama.crop_splats()


def test_few_bad_splats_are_left_out_in_words(extension: ModuleType, splats: str, tmp_path: Path) -> None:
    bpy.ops.diorama.import_splats(filepath=splats, blending="LINEAR")
    body = bpy.context.view_layer.objects.active
    body.data.attributes["rotation"].data[3].value = (0, 0, 0, 0)
    body.data.attributes["scale"].data[5].vector = (0, 0, 0)
    bpy.ops.diorama.export_splats(filepath=str(tmp_path / "b.ply"))
    bpy.ops.diorama.import_splats(filepath=str(tmp_path / "b.ply"), blending="LINEAR")
    assert len(bpy.context.view_layer.objects.active.data.vertices) == 28
