"""Blender's own tools move splats: their shapes and harmonics follow, in the scene and in exports."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import bmesh
import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix

from backend.shared.ply import GaussianCloud, read_ply, write_ply
from tests.blender import splat_reference
from tests.blender.layout_helper import draw
from tests.blender.scene_helpers import make_cloud

pytestmark = pytest.mark.usefixtures("nodes")
TURN = Euler((0.5, 0.9, 1.1)).to_matrix().to_4x4()
MAPS = {
    "turned and scaled": Matrix.Translation((0.1, 0.2, -0.1)) @ TURN @ Matrix.Scale(1.3, 4),
    "stretched": TURN @ Matrix.Diagonal((2, 0.5, 1, 1)),
    "mirrored": TURN @ Matrix.Diagonal((-1, 1, 1, 1)),
    "turned inside out": Matrix.Diagonal((-1.5, -1.5, -1.5, 1)),
}


@pytest.fixture
def imported(extension: ModuleType, tmp_path: Path):
    """Imports a cloud as an object."""

    def put(cloud: GaussianCloud, matrix: Matrix | None = None) -> bpy.types.Object:
        write_ply(tmp_path / "a.ply", cloud)
        bpy.ops.diorama.import_splats(filepath=str(tmp_path / "a.ply"), blending="LINEAR")
        body = bpy.context.view_layer.objects.active
        body.matrix_world = matrix or Matrix()
        bpy.context.view_layer.update()
        return body

    return put


@pytest.fixture
def exported(extension: ModuleType, tmp_path: Path):
    """The active object as a file of splats has it."""

    def get(**options: object) -> GaussianCloud:
        assert bpy.ops.diorama.export_splats(filepath=str(tmp_path / "b.ply"), **options) == {"FINISHED"}
        return read_ply(tmp_path / "b.ply")

    return get


def covariances(cloud: GaussianCloud, matrix: Matrix | None = None) -> np.ndarray:
    linear = np.array(matrix or Matrix())[:3, :3]
    axes = linear @ (splat_reference.rotations(cloud.quats) * cloud.scales[:, None, :].astype(np.float64))
    return axes @ axes.transpose(0, 2, 1)


def colours(cloud: GaussianCloud, matrix: Matrix | None = None) -> np.ndarray:
    """From some directions, of an object with that matrix: [8, N, 3]."""
    left, _, right = np.linalg.svd(np.array(matrix or Matrix())[:3, :3])
    directions = np.random.default_rng(1).normal(size=(8, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    basis = splat_reference.harmonics(directions @ (left @ right))[:, : cloud.sh.shape[1]]
    return np.einsum("dk,nkc->dnc", basis, cloud.sh.astype(np.float64))


def assert_same(cloud: GaussianCloud, shapes: np.ndarray, seen: np.ndarray) -> None:
    found = covariances(cloud)
    assert np.abs(found - shapes).max() < 1e-3 * np.abs(shapes).max()
    assert np.abs(colours(cloud) - seen).max() < 1e-3


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("name", MAPS)
def test_applied_transform_is_in_shapes_and_harmonics(imported, exported, name: str, count: int) -> None:
    cloud = make_cloud(count, degree=3)
    imported(cloud, MAPS[name])
    bpy.ops.object.transform_apply(location=True, rotation=True, scale=True)
    assert_same(exported(), covariances(cloud, MAPS[name]), colours(cloud, MAPS[name]))


@pytest.mark.parametrize("name", MAPS)
def test_export_has_the_transform_or_leaves_it_out(imported, exported, name: str) -> None:
    cloud = make_cloud(20, degree=2)
    imported(cloud, MAPS[name])
    assert_same(exported(), covariances(cloud, MAPS[name]), colours(cloud, MAPS[name]))
    assert_same(exported(apply_transform=False), covariances(cloud), colours(cloud))


def test_joined_objects_keep_their_shapes(imported, exported) -> None:
    clouds = [make_cloud(30, degree=1, seed=seed) for seed in range(3)] + [make_cloud(2, degree=1, seed=7)]
    maps = [Matrix.Translation((1, 0, 0)) @ TURN, *list(MAPS.values())[:2], MAPS["mirrored"]]
    bodies = [imported(cloud, matrix) for cloud, matrix in zip(clouds, maps, strict=True)]
    for body in bodies:
        body.select_set(True)
    bpy.context.view_layer.objects.active = bodies[0]
    bpy.ops.object.join()
    found = exported()
    order = np.argsort(found.means[:, 0])
    placed = [
        cloud.means @ np.array(matrix)[:3, :3].T + np.array(matrix)[:3, 3]
        for cloud, matrix in zip(clouds, maps, strict=True)
    ]
    wanted = np.argsort(np.concatenate(placed)[:, 0])
    shapes = np.concatenate([covariances(*pair) for pair in zip(clouds, maps, strict=True)])
    seen = np.concatenate([colours(*pair) for pair in zip(clouds, maps, strict=True)], axis=1)
    assert np.abs(covariances(found)[order] - shapes[wanted]).max() < 1e-3 * np.abs(shapes).max()
    assert np.abs(colours(found)[:, order] - seen[:, wanted]).max() < 1e-3


def test_part_that_is_turned_in_edit_mode_takes_its_shapes_along(imported, exported) -> None:
    cloud = make_cloud(60, degree=1)
    body = imported(cloud)
    turned = cloud.means[:, 0] > 0
    bpy.ops.object.mode_set(mode="EDIT")
    edited = bmesh.from_edit_mesh(body.data)
    chosen = [vertex for vertex, part in zip(edited.verts, turned, strict=True) if part]
    bmesh.ops.transform(edited, matrix=MAPS["turned and scaled"], verts=chosen)
    bmesh.update_edit_mesh(body.data)
    in_edit_mode = exported()
    bpy.ops.object.mode_set(mode="OBJECT")
    matrix = MAPS["turned and scaled"]
    shapes = np.where(turned[:, None, None], covariances(cloud, matrix), covariances(cloud))
    seen = np.where(turned[None, :, None], colours(cloud, matrix), colours(cloud))
    assert_same(in_edit_mode, shapes, seen)
    assert_same(exported(), shapes, seen)


def test_what_is_bent_in_edit_mode_takes_its_shapes_along(imported, exported) -> None:
    cloud = make_cloud(4000, degree=1)
    body = imported(cloud)
    bpy.ops.object.mode_set(mode="EDIT")
    edited = bmesh.from_edit_mesh(body.data)
    bend = cloud.means.astype(np.float64)
    angles = np.clip(
        1 - np.linalg.norm(bend, axis=1) / 1.2, 0, 1
    )  # less farther out, as in proportional editing
    for vertex, angle in zip(edited.verts, angles, strict=True):
        vertex.co.rotate(Euler((0, 0, angle)))
    bmesh.update_edit_mesh(body.data)
    bpy.ops.object.mode_set(mode="OBJECT")
    # The derivative of that motion: the turn itself, and the growing angle outwards.
    cos, sin, zero, one = np.cos(angles), np.sin(angles), np.zeros_like(angles), np.ones_like(angles)
    turn = np.array([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]]).transpose(2, 0, 1)
    across = np.einsum("nij,nj->ni", turn, np.stack([-bend[:, 1], bend[:, 0], zero], 1))
    outward = -bend / np.maximum(np.linalg.norm(bend, axis=1, keepdims=True), 1e-9) / 1.2
    linear = turn + across[:, :, None] * (outward * (angles > 0)[:, None])[:, None, :]
    wanted = linear @ covariances(cloud) @ linear.transpose(0, 2, 1)
    left_behind, found = (
        np.linalg.norm(shapes - wanted, axis=(1, 2)) / np.linalg.norm(wanted, axis=(1, 2))
        for shapes in (covariances(cloud), covariances(exported()))
    )
    assert np.median(left_behind) > 0.35
    assert np.median(found) < 0.15 and np.quantile(found, 0.95) < 0.4


def test_the_map_of_many_splats_is_found_in_little_memory(extension) -> None:
    before = np.random.default_rng(0).normal(size=(200_000, 3))
    matrix = np.array(MAPS["stretched"])
    found = extension.scene.affine.fit(before, before @ matrix[:3, :3].T + matrix[:3, 3])
    np.testing.assert_allclose(found, matrix, atol=1e-9)


def test_moved_and_deleted_splats_keep_their_shapes(imported, exported) -> None:
    cloud = make_cloud(60)
    body = imported(cloud)
    edited = bmesh.new()
    edited.from_mesh(body.data)
    edited.verts.ensure_lookup_table()
    bmesh.ops.translate(edited, vec=(0.3, 0, 0.1), verts=edited.verts[10:25])
    bmesh.ops.delete(edited, geom=edited.verts[:5], context="VERTS")
    edited.to_mesh(body.data)
    edited.free()
    found = exported()
    np.testing.assert_array_equal(found.quats, cloud.quats[5:])
    np.testing.assert_allclose(found.scales, cloud.scales[5:], rtol=1e-6)


@pytest.mark.parametrize("count", [1, 20])
def test_undo_brings_places_and_shapes_back_together(extension, imported, count: int, tmp_path: Path) -> None:
    def shapes() -> np.ndarray:
        bpy.context.view_layer.update()
        return covariances(extension.scene.splats.splats_of(bpy.context.view_layer.objects.active))

    cloud = make_cloud(count)
    imported(cloud, TURN)
    bpy.ops.ed.undo_push(message="placed")
    bpy.ops.object.transform_apply("EXEC_DEFAULT", True, location=True, rotation=True, scale=True)
    applied = covariances(cloud, TURN)
    np.testing.assert_allclose(shapes(), applied, rtol=1e-3, atol=1e-6)
    bpy.ops.transform.translate("EXEC_DEFAULT", True, value=(1, 0, 0))
    bpy.ops.ed.undo()
    np.testing.assert_allclose(shapes(), applied, rtol=1e-3, atol=1e-6)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"), copy=True)
    bpy.ops.ed.undo()
    np.testing.assert_allclose(shapes(), covariances(cloud), rtol=1e-3, atol=1e-6)
    bpy.ops.ed.redo()
    np.testing.assert_allclose(shapes(), applied, rtol=1e-3, atol=1e-6)
    with bpy.data.libraries.load(str(tmp_path / "a.blend")) as (_, there):  # as it is in the file
        there.meshes = ["a"]
    saved = extension.scene.splats.cloud_in(there.meshes[0])
    np.testing.assert_allclose(covariances(saved), applied, rtol=1e-3, atol=1e-6)


def test_undone_and_saved_changes_stay_right(imported, exported, tmp_path: Path) -> None:
    cloud = make_cloud(20)
    imported(cloud, TURN)
    bpy.ops.object.transform_apply(location=True, rotation=True, scale=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.object.transform_apply(location=True, rotation=True, scale=True)
    assert_same(exported(), covariances(cloud, TURN), colours(cloud, TURN))


def bent_by(kind: str, body: bpy.types.Object) -> Matrix:
    """Let something turn and scale all splats of an object, and say by which map."""
    scene = bpy.context.scene
    if kind == "armature":
        rig = bpy.data.objects.new("rig", bpy.data.armatures.new("rig"))
        scene.collection.objects.link(rig)
        bpy.context.view_layer.objects.active = rig
        bpy.ops.object.mode_set(mode="EDIT")
        bone = rig.data.edit_bones.new("bone")
        bone.tail = (0, 0, 1)
        bpy.ops.object.mode_set(mode="OBJECT")
        body.vertex_groups.new(name="bone").add(range(len(body.data.vertices)), 1.0, "REPLACE")
        body.modifiers.new("Armature", "ARMATURE").object = rig
        posed = rig.pose.bones["bone"]
        posed.matrix = MAPS["turned and scaled"] @ posed.bone.matrix_local
        bpy.context.view_layer.objects.active = body
        bpy.context.view_layer.update()
        return MAPS["turned and scaled"]
    if kind == "lattice":
        cage = bpy.data.objects.new("cage", bpy.data.lattices.new("cage"))
        scene.collection.objects.link(cage)
        cage.scale = (20, 20, 20)  # around all splats
        for side in "uvw":
            setattr(cage.data, f"interpolation_type_{side}", "KEY_LINEAR")
        matrix = TURN @ Matrix.Diagonal((1.5, 0.7, 1, 1))
        for point in cage.data.points:
            point.co_deform = matrix.to_3x3() @ point.co
        body.modifiers.new("Lattice", "LATTICE").object = cage
        bpy.context.view_layer.update()
        return matrix
    body.shape_key_add(name="Basis")
    key = body.shape_key_add(name="turned")
    for point in key.data:
        point.co = TURN @ point.co
    key.value = 1.0
    bpy.context.view_layer.update()
    return TURN


def test_shape_key_that_is_edited_has_shapes_of_its_own(extension, imported, exported) -> None:
    cloud = make_cloud(40, degree=1)
    body = imported(cloud)
    body.shape_key_add(name="Basis")
    body.shape_key_add(name="turned")
    body.active_shape_key_index = 1
    bpy.ops.object.mode_set(mode="EDIT")
    edited = bmesh.from_edit_mesh(body.data)
    bmesh.ops.transform(edited, matrix=MAPS["stretched"], verts=edited.verts[:])
    bmesh.update_edit_mesh(body.data)
    bpy.ops.object.mode_set(mode="OBJECT")
    for value in (0.0, 1.0, 0.0):
        body.data.shape_keys.key_blocks["turned"].value = value
        bpy.context.view_layer.update()
        matrix = MAPS["stretched"] if value else None
        assert_same(exported(), covariances(cloud, matrix), colours(cloud, matrix))


def test_object_without_a_finite_place_is_refused_in_words(imported, exported, capfd) -> None:
    body = imported(make_cloud(5))
    body.matrix_world = [[float("nan")] * 4] * 4
    bpy.context.view_layer.update()
    with pytest.raises(RuntimeError, match="E_REQUEST: the transform holds numbers that are not finite"):
        exported()
    body.matrix_world = Matrix.Diagonal((0, 1, 1, 1))
    bpy.context.view_layer.update()
    assert len(exported()) == 5
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["armature", "lattice", "shape keys"])
@pytest.mark.parametrize("first", [True, False])
def test_splats_that_a_modifier_moves_are_exported_and_applied_with_their_shapes(
    extension, imported, exported, kind: str, first: bool
) -> None:
    cloud = make_cloud(400, degree=1)
    body = imported(cloud)
    assert extension.scene.carry.moved_by(body) == []
    matrix = bent_by(kind, body)
    name = {"armature": "Armature", "lattice": "Lattice"}.get(kind, "Shape Keys")
    assert extension.scene.carry.moved_by(body) == [name]
    assert f"{name}: shapes follow when applied" in draw(extension.scene.panel.DIORAMA_PT_result)
    if first and kind != "shape keys":
        body.modifiers.move(len(body.modifiers) - 1, 0)
    before = [each.show_viewport for each in body.modifiers]
    assert_same(exported(), covariances(cloud, matrix), colours(cloud, matrix))
    assert [each.show_viewport for each in body.modifiers] == before
    assert_same(exported(apply_transform=False), covariances(cloud, matrix), colours(cloud, matrix))
    if kind == "shape keys":
        bpy.ops.object.shape_key_remove(all=True, apply_mix=True)
    else:
        bpy.ops.object.modifier_apply(modifier=name)
    bpy.context.view_layer.update()
    assert extension.scene.carry.moved_by(body) == []
    assert_same(exported(), covariances(cloud, matrix), colours(cloud, matrix))


def test_mirrored_copy_by_a_modifier_is_exported_mirrored(imported, exported) -> None:
    cloud = make_cloud(50, degree=2)
    body = imported(cloud)
    mirror = body.modifiers.new("Mirror", "MIRROR")
    mirror.use_mirror_merge = False
    across = Matrix.Diagonal((-1, 1, 1, 1))
    assert_same(
        exported(),
        np.concatenate([covariances(cloud), covariances(cloud, across)]),
        np.concatenate([colours(cloud), colours(cloud, across)], axis=1),
    )


def test_joined_objects_are_whole_again_after_undo_and_joined_after_redo(
    extension, imported, exported
) -> None:
    clouds = [make_cloud(30, degree=1, seed=seed) for seed in range(2)]
    bodies = [imported(cloud, matrix) for cloud, matrix in zip(clouds, (Matrix(), TURN), strict=True)]
    names = [body.name for body in bodies]
    bpy.ops.object.select_all(action="SELECT")
    bpy.context.view_layer.objects.active = bodies[0]
    bpy.ops.ed.undo_push(message="placed")
    bpy.ops.object.join("EXEC_DEFAULT", True)
    joined = exported()
    assert len(joined) == 60
    shapes = np.concatenate([covariances(clouds[0]), covariances(clouds[1], TURN)])
    assert np.abs(covariances(joined) - shapes).max() < 1e-3 * np.abs(shapes).max()
    bpy.ops.ed.undo()
    for name, cloud, matrix in zip(names, clouds, (Matrix(), TURN), strict=True):
        body = bpy.data.objects[name]
        bpy.context.view_layer.objects.active = body
        bpy.context.view_layer.update()
        assert_same(exported(apply_transform=False), covariances(cloud), colours(cloud))
        assert_same(exported(), covariances(cloud, matrix), colours(cloud, matrix))
    bpy.ops.ed.redo()
    bpy.context.view_layer.objects.active = bpy.data.objects[names[0]]
    again = exported()
    np.testing.assert_allclose(covariances(again), covariances(joined), rtol=1e-3, atol=1e-7)


def test_attributes_of_another_kind_under_our_names_are_no_splats(extension, imported) -> None:
    for name, kind, domain in (
        ("rotation", "FLOAT", "POINT"),
        ("scale", "FLOAT_VECTOR", "EDGE"),
        ("sh_0", "BYTE_COLOR", "POINT"),
    ):
        body = imported(make_cloud(5))
        body.data.attributes.remove(body.data.attributes[name])
        body.data.attributes.new(name, kind, domain)
        assert not extension.scene.splats.is_splats(body)
        with pytest.raises(RuntimeError, match="Select a splat object"):
            bpy.ops.diorama.export_splats(filepath="a.ply")
    body = imported(make_cloud(5))
    body.data.attributes.remove(body.data.attributes["splat_place"])
    body.data.attributes.new("splat_place", "FLOAT", "POINT")
    extension.scene.carry.sync(body)  # begins anew from where they are
    assert body.data.attributes["splat_place"].data_type == "FLOAT_VECTOR"
