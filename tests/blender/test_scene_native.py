"""Blender's own splats (5.3): imported, converted both ways without loss, exported as they stand, moving."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from backend.shared.asset import write_asset
from backend.shared.ply import GaussianCloud, read_ply, write_ply
from backend.shared.splat_transform import UPS, transformed, turned
from tests.blender.scene_helpers import make_cloud, orbit

pytestmark = pytest.mark.usefixtures("nodes")
newer = pytest.mark.skipif(bpy.app.version < (5, 3, 0), reason="Blender has no splats of its own")


def import_splats(path: Path, **options: object) -> bpy.types.Object:
    assert bpy.ops.diorama.import_splats(filepath=str(path), **options) == {"FINISHED"}
    return bpy.context.active_object


def assert_same(one: GaussianCloud, two: GaussianCloud, tolerance: float = 0) -> None:
    for name, values in vars(two).items():
        np.testing.assert_allclose(getattr(one, name), values, rtol=0, atol=tolerance)


@pytest.mark.skipif(bpy.app.version >= (5, 3, 0), reason="Blender has splats of its own")
def test_older_blender_says_that_it_has_no_splats_of_its_own(extension, tmp_path):
    write_ply(tmp_path / "a.ply", make_cloud(5))
    with pytest.raises(RuntimeError, match=r"has no splats of its own.*Use Blender 5\.3"):
        bpy.ops.diorama.import_splats(filepath=str(tmp_path / "a.ply"), representation="NATIVE")
    assert not bpy.data.objects
    import_splats(tmp_path / "a.ply")
    with pytest.raises(RuntimeError, match=r"Needs Blender 5\.3"):
        bpy.ops.diorama.convert_to_native()


@newer
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_native_objects_are_blenders_and_convert_without_loss(extension, tmp_path, degree):
    write_ply(tmp_path / "a.ply", make_cloud(50, degree))
    cloud = read_ply(tmp_path / "a.ply")
    bpy.ops.wm.ply_import(filepath=str(tmp_path / "a.ply"), forward_axis="Y", up_axis="Z")
    theirs = bpy.context.active_object
    ours = import_splats(tmp_path / "a.ply", representation="NATIVE")
    kinds = [{(a.name, a.data_type, a.domain) for a in each.data.attributes} for each in (ours, theirs)]
    assert kinds[0] == kinds[1] and ours.data.type == theirs.data.type
    native = extension.scene.native
    assert_same(native.cloud_in(ours.data), cloud)
    assert_same(native.cloud_in(theirs.data), cloud, 1e-6)
    ours.location, ours["mine"] = (1, 2, 3), 4
    child = bpy.data.objects.new("child", None)
    child.parent = ours
    assert bpy.ops.diorama.convert_to_splats() == {"FINISHED"}
    assert_same(extension.scene.splats.splats_of(ours), cloud)
    assert bpy.ops.diorama.convert_to_native() == {"FINISHED"}
    assert native.is_native(ours) and child.parent == ours and ours["mine"] == 4 and ours.location.z == 3
    assert_same(native.cloud_in(ours.data), cloud)
    assert {(a.name, a.data_type, a.domain) for a in ours.data.attributes if a.name[0] != "."} == kinds[1]


@newer
def test_what_blenders_splats_cannot_show_is_said_and_display_blending_comes_back(extension, tmp_path):
    write_ply(tmp_path / "a.ply", make_cloud(20))
    splats = import_splats(tmp_path / "a.ply", blending="DISPLAY")
    extension.scene.modifier_inputs.set_inputs(splats.modifiers[0], Tint=(1.0, 0.5, 0.5, 1.0))
    lost = extension.scene.conversion.to_native(bpy.context, splats)
    assert lost == ["Blender's own splats have no Tint, Display Blending: they are shown without"]
    assert bpy.context.scene.collection in splats.users_collection
    assert "Display Splats" not in [home.name for home in splats.users_collection]
    bpy.ops.diorama.export_splats(filepath=str(tmp_path / "b.ply"))
    assert (tmp_path / "b.ply").read_bytes() != (tmp_path / "a.ply").read_bytes()  # it notes the blending
    assert_same(read_ply(tmp_path / "b.ply"), read_ply(tmp_path / "a.ply"))
    bpy.ops.diorama.convert_to_splats()
    assert extension.scene.modifier_inputs.get_input(splats.modifiers[0], "Display Blending")
    assert [home.name for home in splats.users_collection] == ["Display Splats"]


@newer
def test_what_cannot_be_converted_stays_as_it_is(extension, tmp_path):
    write_ply(tmp_path / "a.ply", make_cloud(20))
    splats = import_splats(tmp_path / "a.ply")
    for home in splats.users_collection:
        home.objects.unlink(splats)
    with pytest.raises(extension.backend.shared.protocol.DioramaError, match="cannot convert a"):
        extension.scene.conversion.to_native(bpy.context, splats)
    assert splats.type == "MESH" and splats.modifiers[0].show_viewport


@newer
def test_native_objects_are_exported_as_they_stand(extension, tmp_path):
    cloud = make_cloud(60, 3)
    write_ply(tmp_path / "a.ply", cloud)
    bpy.ops.wm.ply_import(filepath=str(tmp_path / "a.ply"), forward_axis="Y", up_axis="Z")
    body = bpy.context.active_object
    body.location, body.rotation_euler, body.scale = (1, 2, 3), (0.3, 0.2, 0.1), (2, 1, 0.5)
    bpy.context.view_layer.update()
    assert bpy.ops.diorama.export_splats(filepath=str(tmp_path / "b.ply")) == {"FINISHED"}
    back, expected = read_ply(tmp_path / "b.ply"), transformed(cloud, np.array(body.matrix_world))
    for name in ("means", "scales", "sh", "opacities"):
        np.testing.assert_allclose(getattr(back, name), getattr(expected, name), atol=1e-5)
    turn = np.abs(np.sum(back.quats * expected.quats, axis=1))
    np.testing.assert_allclose(turn, 1, atol=1e-5)


@newer
def test_moving_native_splats_follow_the_timeline_and_mix_between_frames(extension, tmp_path):
    clouds = [make_cloud(30, 1, seed) for seed in (1, 2)]
    for index, cloud in enumerate(clouds):
        write_ply(tmp_path / f"walk_{index}.ply", cloud)
    names = [{"name": f"walk_{index}.ply"} for index in (0, 1)]
    bpy.ops.diorama.import_splats(directory=str(tmp_path), files=names, representation="NATIVE")
    body, scene = bpy.context.active_object, bpy.context.scene
    sequences = extension.scene.sequences
    extension.scene.modifier_inputs.set_inputs(body.modifiers[sequences.GROUP_NAME], Interpolate=True)

    def shown() -> GaussianCloud:
        data = body.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
        assert data.type == "GAUSSIAN_SPLAT"
        return extension.scene.native.cloud_in(data)

    for _ in range(2):
        for index in (0, 1):
            scene.frame_set(scene.frame_start + index)
            assert_same(shown(), clouds[index], 1e-6)
        scene.frame_set(scene.frame_start, subframe=0.5)
        between = shown()
        for name in ("means", "scales", "opacities"):
            middle = (getattr(clouds[0], name) + getattr(clouds[1], name)) / 2
            np.testing.assert_allclose(getattr(between, name), middle, atol=1e-5)
        np.testing.assert_allclose(between.sh[:, 0], (clouds[0].sh[:, 0] + clouds[1].sh[:, 0]) / 2, atol=1e-5)
        bpy.ops.diorama.convert_to_splats()  # and back, with its motion
        assert len(extension.scene.frame_objects(body)) == 2
        bpy.ops.diorama.convert_to_native()


@newer
def test_generated_splats_are_what_the_preferences_say(extension, tmp_path):
    write_asset(
        tmp_path / "asset",
        request={"prompt": "a ball", "seed": 3},
        model="starter",
        clouds=[make_cloud(20)],
        views=np.zeros((4, 1, 8, 8, 3), np.float32),
        cameras=orbit(4),
        fov_deg=40,
        blending="linear",
        timings={},
    )
    preferences = bpy.context.preferences.addons[extension.__name__].preferences
    preferences.generated_splats = "NATIVE"
    try:
        collection = extension.scene.import_asset(bpy.context, tmp_path / "asset", report=lambda _: None)
    finally:
        preferences.generated_splats = "NODES"
    (body,) = extension.scene.splat_objects(collection)
    assert extension.scene.native.is_native(body) and body.parent


@newer
def test_usd_is_read_by_blender_as_it_was_written(extension, tmp_path):
    cloud = make_cloud(40, 3)
    write_ply(tmp_path / "a.ply", cloud)
    import_splats(tmp_path / "a.ply")
    assert bpy.ops.diorama.export_splats(filepath=str(tmp_path / "b.usdc")) == {"FINISHED"}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.ply", "b.usdc"]
    bpy.utils.expose_bundled_modules()
    from pxr import Usd, UsdGeom, UsdVol

    stage = Usd.Stage.Open(str(tmp_path / "b.usdc"))
    prim = UsdVol.ParticleField3DGaussianSplat(stage.GetDefaultPrim())
    assert prim and UsdGeom.GetStageUpAxis(stage) == "Y"
    x, y, z = np.array(prim.GetPositionsAttr().Get()).T
    np.testing.assert_array_equal(np.stack([x, -z, y], axis=1), cloud.means)
    before = set(bpy.data.objects)
    bpy.ops.wm.usd_import(filepath=str(tmp_path / "b.usdc"))
    (splats,) = (item for item in set(bpy.data.objects) - before if item.type == "POINTCLOUD")
    assert_same(extension.scene.native.cloud_in(splats.data), turned(cloud, UPS["Y"].T), 1e-6)
