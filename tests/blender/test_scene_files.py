"""Splat files go in and out of Blender, with what was edited; bad files change nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import bmesh
import bpy
import numpy as np
import pytest
from mathutils import Matrix

from backend.shared import splat_formats
from backend.shared.ply import read_ply, write_ply
from backend.shared.splat_transform import UPS, turned
from tests.blender.scene_helpers import add_camera, make_cloud, orbit, pixel_size, prepare, render, render_png
from tests.blender.splat_reference import linear_to_srgb, psnr, srgb_to_linear
from tests.blender.splat_reference import render as reference

pytestmark = pytest.mark.usefixtures("nodes")


def import_splats(path: Path, **options: object) -> bpy.types.Object:
    assert bpy.ops.diorama.import_splats(filepath=str(path), **options) == {"FINISHED"}
    return bpy.context.active_object


def edit(splats: bpy.types.Object, action) -> None:
    """Do something to the mesh as edit mode does."""
    mesh = bmesh.new()
    mesh.from_mesh(splats.data)
    mesh.verts.ensure_lookup_table()
    action(mesh)
    mesh.to_mesh(splats.data)
    mesh.free()


@pytest.mark.parametrize("degree", [0, 2, 3])
def test_import_and_export_keep_every_bit(extension, tmp_path, degree):
    write_ply(tmp_path / "a.ply", make_cloud(1000, degree))
    import_splats(tmp_path / "a.ply")
    assert bpy.ops.diorama.export_splats(filepath=str(tmp_path / "b.ply")) == {"FINISHED"}
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


def test_menus_offer_import_and_export(extension):
    for menu in (bpy.types.TOPBAR_MT_file_import, bpy.types.TOPBAR_MT_file_export):
        assert any(entry.__module__.endswith("scene.file_operators") for entry in menu.draw._draw_funcs)


def test_deleted_moved_and_duplicated_splats_are_exported_and_rendered(extension, tmp_path):
    cloud, pose = make_cloud(200, 1), orbit(4)[0]
    write_ply(tmp_path / "a.ply", cloud)
    splats = import_splats(tmp_path / "a.ply", blending="LINEAR")

    def change(mesh):
        copies = bmesh.ops.duplicate(mesh, geom=mesh.verts[:20])["geom"]
        bmesh.ops.translate(mesh, verts=copies, vec=(0.1, 0.2, -0.3))
        bmesh.ops.delete(mesh, geom=mesh.verts[50:120])

    edit(splats, change)
    bpy.ops.diorama.export_splats(filepath=str(tmp_path / "b.ply"))
    edited = read_ply(tmp_path / "b.ply")
    keep = [*range(50), *range(120, 200), *range(20)]
    moved = np.zeros((150, 3), np.float32)
    moved[130:] = (0.1, 0.2, -0.3)
    np.testing.assert_allclose(edited.means, cloud.means[keep] + moved, atol=1e-6)
    np.testing.assert_allclose(edited.quats, cloud.quats[keep], atol=1e-6)
    np.testing.assert_array_equal(edited.sh, cloud.sh[keep])
    prepare(64, 64)
    add_camera(pose)
    assert psnr(render(tmp_path), reference(edited, pose, 64, 64, pixel=pixel_size(40, 64))) > 70


def test_joined_splats_are_one_cloud(extension, tmp_path):
    clouds = [make_cloud(30, 0, seed) for seed in (1, 2)]
    for name, cloud in zip("ab", clouds, strict=True):
        write_ply(tmp_path / f"{name}.ply", cloud)
        import_splats(tmp_path / f"{name}.ply").select_set(True)
    for item in bpy.context.scene.objects:
        item.select_set(True)
    assert bpy.ops.object.join() == {"FINISHED"}
    bpy.ops.diorama.export_splats(filepath=str(tmp_path / "c.ply"))
    joined = read_ply(tmp_path / "c.ply")
    np.testing.assert_array_equal(joined.means, np.concatenate([clouds[1].means, clouds[0].means]))
    np.testing.assert_array_equal(joined.sh, np.concatenate([clouds[1].sh, clouds[0].sh]))


def truncated(path: Path) -> None:
    write_ply(path, make_cloud(10))
    path.write_bytes(path.read_bytes()[:-1])


def mesh_file(path: Path) -> None:
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.wm.ply_export(filepath=str(path))
    bpy.ops.object.delete()


BAD = {
    "cut short": truncated,
    "is a mesh": mesh_file,
    "cannot be read": lambda path: None,
}


@pytest.mark.parametrize("message", BAD)
def test_bad_file_is_refused_in_words_and_changes_nothing(extension, tmp_path, message):
    bpy.ops.wm.read_homefile(use_empty=True)  # without nodes, so that none can be left behind
    BAD[message](tmp_path / "bad.ply")
    before = [
        item.name
        for kind in ("objects", "meshes", "node_groups", "materials")
        for item in getattr(bpy.data, kind)
    ]
    with pytest.raises(RuntimeError, match=rf"E_PLY.*{message}"):
        bpy.ops.diorama.import_splats(filepath=str(tmp_path / "bad.ply"))
    assert before == [
        item.name
        for kind in ("objects", "meshes", "node_groups", "materials")
        for item in getattr(bpy.data, kind)
    ]
    assert bpy.context.scene.cycles.transparent_max_bounces == 8


def test_export_into_a_missing_folder_is_an_error_in_words(extension, tmp_path):
    write_ply(tmp_path / "a.ply", make_cloud(10))
    import_splats(tmp_path / "a.ply")
    with pytest.raises(RuntimeError, match="cannot be written"):
        bpy.ops.diorama.export_splats(filepath=str(tmp_path / "no" / "b.ply"))


@pytest.mark.parametrize("by_format", [True, False])
def test_photogrammetry_splats_stand_upright_with_their_shapes_and_harmonics(extension, tmp_path, by_format):
    cloud = make_cloud(50, 2)
    write_ply(tmp_path / "a.ply", cloud, z_up=not by_format)
    upright = import_splats(tmp_path / "a.ply", **({} if by_format else {"up_axis": "-Y"}))
    assert upright.matrix_world == Matrix()
    found, expected = extension.scene.splats.splats_of(upright), turned(cloud, UPS["-Y"])
    np.testing.assert_array_equal(found.means, expected.means)
    np.testing.assert_array_equal(found.means[:, 2], -cloud.means[:, 1])
    for name in ("quats", "scales", "sh"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-6)
    assert np.abs(found.sh - cloud.sh).max() > 0.1  # harmonics turn along


def test_chosen_axes_come_back_from_an_export_with_the_same(extension, tmp_path):
    cloud = make_cloud(50, 3)
    write_ply(tmp_path / "a.ply", cloud)
    axes = {"up_axis": "X", "forward_axis": "-Y"}
    import_splats(tmp_path / "a.ply", **axes)
    bpy.ops.diorama.export_splats(filepath=str(tmp_path / "b.ply"), **axes)
    back = read_ply(tmp_path / "b.ply")
    np.testing.assert_array_equal(back.means, cloud.means)
    np.testing.assert_allclose(back.sh, cloud.sh, atol=1e-6)
    with pytest.raises(RuntimeError, match=r"Up \(Z\) and Forward \(-Z\) are along one axis"):
        bpy.ops.diorama.import_splats(filepath=str(tmp_path / "a.ply"), up_axis="Z", forward_axis="-Z")


def test_files_say_how_they_are_blended(extension, tmp_path):
    """Ours are light unless they were display before; those of other programs are always display."""
    names = {"ours": {}, "shown": {"blending": "display"}, "theirs": {"z_up": False}}
    found = {}
    for name, notes in names.items():
        write_ply(tmp_path / f"{name}.ply", make_cloud(10), **notes)
        splats = import_splats(tmp_path / f"{name}.ply")
        found[name] = extension.scene.modifier_inputs.get_input(splats.modifiers[0], "Display Blending")
        bpy.ops.diorama.export_splats(filepath=str(tmp_path / f"{name} again.ply"))
        again = splat_formats.blending_of(tmp_path / f"{name} again.ply")
        assert again == ("display" if found[name] else "linear")
    assert found == {"ours": False, "shown": True, "theirs": True}


def splat_viewer(cloud, pose, **options):
    """What splat viewers show: sRGB values composited as they are."""
    return reference(cloud, pose, 64, 64, pixel=pixel_size(40, 64), blending="display", **options)


def test_foreign_splats_look_as_in_splat_viewers(extension, tmp_path):
    cloud, pose = make_cloud(degree=2), orbit(4)[1]
    write_ply(tmp_path / "a.ply", cloud)
    scene = prepare(64, 64)
    scene.view_settings.view_transform = "Standard"
    add_camera(pose)
    import_splats(tmp_path / "a.ply", blending="DISPLAY")
    expected = np.clip(splat_viewer(cloud, pose), 0, 1)
    assert psnr(render_png(tmp_path), expected) > 48
    wrong = linear_to_srgb(reference(cloud, pose, 64, 64, pixel=pixel_size(40, 64)))
    assert psnr(wrong, expected) < 25  # so the blending space is what is tested


@pytest.mark.parametrize("before", ["another scene", "a compositor without output", "renamed"])
def test_foreign_splats_look_right_whatever_was_there_before(extension, tmp_path, before):
    cloud, pose = make_cloud(), orbit(4)[1]
    write_ply(tmp_path / "a.ply", cloud)
    if before == "another scene":
        import_splats(tmp_path / "a.ply", blending="DISPLAY")
        bpy.ops.scene.new(type="NEW")
    elif before == "renamed":
        bpy.data.objects.remove(import_splats(tmp_path / "a.ply", blending="DISPLAY"))
        bpy.context.scene.collection.children[0].name = "mine"
        bpy.context.scene.view_layers[1].name = "mine too"
    elif bpy.app.version >= (5, 3):
        effect = bpy.context.scene.compositor_effects.new("Scene")
        effect.node_group = bpy.data.node_groups.new("empty", "CompositorNodeTree")
    elif bpy.app.version >= (5, 0):
        bpy.context.scene.compositing_node_group = bpy.data.node_groups.new("empty", "CompositorNodeTree")
    else:
        bpy.context.scene.use_nodes = True
        bpy.context.scene.node_tree.nodes.clear()
    scene = prepare(64, 64)
    scene.view_settings.view_transform = "Standard"
    add_camera(pose)
    import_splats(tmp_path / "a.ply", blending="DISPLAY")
    assert len(scene.view_layers) == 2 and len(scene.collection.children) == 1
    assert psnr(render_png(tmp_path), np.clip(splat_viewer(cloud, pose), 0, 1)) > 48


def test_foreign_splats_and_meshes_hide_each_other_by_depth(extension, tmp_path):
    cloud, pose = make_cloud(), orbit(4)[0]
    write_ply(tmp_path / "a.ply", cloud)
    scene = prepare(64, 64)
    scene.view_settings.view_transform = "Standard"
    camera = add_camera(pose)
    grey = bpy.data.materials.new("grey")
    if grey.node_tree is None:
        grey.use_nodes = True
    grey.node_tree.nodes.clear()
    emission, output = (
        grey.node_tree.nodes.new(f"ShaderNode{kind}") for kind in ("Emission", "OutputMaterial")
    )
    emission.inputs["Color"].default_value = (0.2, 0.2, 0.2, 1)
    grey.node_tree.links.new(emission.outputs[0], output.inputs[0])
    wall = bpy.data.meshes.new("wall")
    wall.from_pydata([(-3, -3, -2.6), (3, -3, -2.6), (3, 3, -2.6), (-3, 3, -2.6)], [], [(0, 1, 2, 3)])
    wall.materials.append(grey)
    body = bpy.data.objects.new("wall", wall)
    body.parent = camera
    stage, within = (bpy.data.collections.new(name) for name in ("stage", "within"))
    scene.collection.children.link(stage)
    stage.children.link(within)
    within.objects.link(body)
    import_splats(tmp_path / "a.ply", blending="DISPLAY")

    inverse = np.linalg.inv(pose)
    in_front = -(cloud.means @ inverse[2, :3] + inverse[2, 3]) < 2.6
    kept = type(cloud)(**{name: values[in_front] for name, values in vars(cloud).items()})
    white = type(cloud)(**(vars(kept) | {"sh": np.full_like(kept.sh, 0.5 / 0.28209479177387814)}))
    expected = linear_to_srgb(
        0.2 * (1 - splat_viewer(white, pose)) + srgb_to_linear(splat_viewer(kept, pose))
    )
    assert psnr(render_png(tmp_path), expected) > 48


def test_very_large_file_is_imported_only_on_request(extension, tmp_path, monkeypatch):
    write_ply(tmp_path / "a.ply", make_cloud(101))
    monkeypatch.setattr(extension.scene.file_operators, "_LARGE", 100)
    with pytest.raises(RuntimeError, match="Very Large"):
        bpy.ops.diorama.import_splats(filepath=str(tmp_path / "a.ply"))
    assert not bpy.data.meshes
    import_splats(tmp_path / "a.ply", very_large=True)


def test_what_needs_splats_says_so(extension):
    for operator in (bpy.ops.diorama.export_splats, bpy.ops.diorama.crop_splats):
        with pytest.raises(RuntimeError, match="Select a splat object"):
            operator()


def test_polls_need_no_window(extension, tmp_path):
    write_ply(tmp_path / "a.ply", make_cloud(20))
    import_splats(tmp_path / "a.ply")
    # what a timer's context has
    context = SimpleNamespace(view_layer=bpy.context.view_layer, scene=bpy.context.scene)
    operators = extension.scene.operators
    assert extension.scene.file_operators.DIORAMA_OT_export_splats.poll(context)
    assert extension.scene.result_operators.DIORAMA_OT_crop_splats.poll(context)
    assert not operators.DIORAMA_OT_keep_frames_beside.poll(context)
    assert extension.scene.panel.DIORAMA_PT_result.poll(context)


def test_crop_is_put_beside_the_splats_of_this_scene(extension, tmp_path):
    write_ply(tmp_path / "a.ply", make_cloud(20))
    splats = import_splats(tmp_path / "a.ply", blending="LINEAR")
    first, second = (bpy.data.collections.new(name) for name in ("a", "b"))
    bpy.data.scenes.new("elsewhere").collection.children.link(first)
    bpy.context.scene.collection.children.link(second)
    bpy.context.collection.objects.unlink(splats)
    for home in (first, second):
        home.objects.link(splats)
    assert splats.users_collection[0] == first
    bpy.context.view_layer.objects.active = splats
    assert bpy.ops.diorama.crop_splats() == {"FINISHED"}
    assert list(bpy.context.view_layer.objects.active.users_collection) == [second]


def test_nodes_that_lost_an_input_are_told_of(extension, tmp_path):
    write_ply(tmp_path / "a.ply", make_cloud(20))
    splats = import_splats(tmp_path / "a.ply", blending="LINEAR")
    group = splats.modifiers[0].node_group
    for lost in ("Crop Object", "Tint"):
        sockets = group.interface.items_tree
        group.interface.remove(next(item for item in sockets if item.name == lost))
    with pytest.raises(RuntimeError, match=r"'Crop Object' any more.*Undo what was changed"):
        bpy.ops.diorama.crop_splats()
    assert list(bpy.data.objects) == [splats]
    assert bpy.ops.diorama.export_splats(filepath=str(tmp_path / "b.ply")) == {"FINISHED"}
    drawn = []
    layout = SimpleNamespace(prop=lambda *_, text: drawn.append(text))
    for name in ("Lit", "Tint"):
        extension.scene.modifier_inputs.draw_input(layout, splats.modifiers[0], name)
    assert drawn == ["Lit"]


@pytest.mark.parametrize("shape", ["CUBE", "SPHERE"])
def test_crop_begins_around_everything_and_is_exported(extension, tmp_path, shape):
    cloud = make_cloud(200)
    write_ply(tmp_path / "a.ply", cloud)
    splats = import_splats(tmp_path / "a.ply")
    splats.location, splats.rotation_euler.x = (1, 2, 3), -1.2
    bpy.context.view_layer.update()
    assert bpy.ops.diorama.crop_splats(shape=shape) == {"FINISHED"}
    crop = bpy.context.active_object
    bpy.context.view_layer.update()
    bpy.context.view_layer.objects.active = splats
    bpy.ops.diorama.export_splats(filepath=str(tmp_path / "all.ply"), apply_transform=False)
    assert len(read_ply(tmp_path / "all.ply")) == 200
    crop.scale *= 0.4
    bpy.context.view_layer.update()
    bpy.ops.diorama.export_splats(filepath=str(tmp_path / "few.ply"), apply_transform=False)
    place = np.array(
        [crop.matrix_world.inverted() @ splats.matrix_world @ v.co for v in splats.data.vertices]
    )
    inside = np.abs(place).max(axis=1) < 1 if shape == "CUBE" else np.linalg.norm(place, axis=1) < 1
    assert 10 < inside.sum() < 190
    np.testing.assert_array_equal(read_ply(tmp_path / "few.ply").means, cloud.means[inside])
