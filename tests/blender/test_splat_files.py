"""Files of every format go through Blender's dialogs, and bad ones are refused and change nothing."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from backend.shared import splat_formats
from backend.shared.ply import write_ply
from tests.blender.scene_helpers import make_cloud

pytestmark = pytest.mark.usefixtures("nodes")
DATA = Path(__file__).parents[1] / "data" / "splats"


def import_splats(path: Path, **options: object) -> bpy.types.Object:
    assert bpy.ops.diorama.import_splats(filepath=str(path), **options) == {"FINISHED"}
    return bpy.context.active_object


@pytest.mark.parametrize("kind", splat_formats.WRITTEN)
def test_every_format_comes_in_and_goes_out_where_the_object_stands(extension, tmp_path, kind):
    cloud = make_cloud(80, 1)
    write_ply(tmp_path / "a.ply", cloud)
    splats = import_splats(tmp_path / "a.ply")
    splats.location, splats.rotation_euler, splats.scale = (1, 2, 3), (0.3, 0.2, 0.1), (2, 2, 2)
    bpy.context.view_layer.update()
    expected = cloud.means @ np.array(splats.matrix_world)[:3, :3].T + np.array(splats.location)
    path = tmp_path / f"b{splat_formats.FORMATS[kind].suffix}"
    assert bpy.ops.diorama.export_splats(filepath=str(path)) == {"FINISHED"}
    assert splat_formats.format_of(path) == kind
    path.rename(tmp_path / "no known name")  # what is in a file counts
    back = extension.scene.splats.splats_of(import_splats(tmp_path / "no known name"))
    distances = np.linalg.norm(back.means[:, None] - expected[None], axis=2)
    nearest = distances.argmin(axis=1)
    assert sorted(nearest) == list(range(80)) and distances.min(axis=1).max() < 0.01
    sizes, made = (np.sort(np.log(each), axis=1) for each in (back.scales, cloud.scales[nearest]))
    np.testing.assert_allclose(sizes, made + np.log(2), atol=0.07)


def test_webp_of_other_programs_is_read_by_blenders_image_loader(extension):
    one, two = (
        extension.scene.splats.splats_of(import_splats(DATA / name))
        for name in ("splat_transform.sog", "original.ply")
    )
    distances = np.linalg.norm(one.means[:, None] - two.means[None], axis=2)
    assert distances.min(axis=1).max() < 1e-4
    np.testing.assert_allclose(one.sh[:, 0], two.sh[distances.argmin(axis=1), 0], atol=0.03)


@pytest.mark.parametrize("name", ["gsply_v4.spz", "mkkellogg_1.ksplat", "splat_transform.glb"])
def test_files_of_other_programs_are_imported(extension, name):
    assert len(import_splats(DATA / name).data.vertices) == 60


def test_a_chosen_format_names_the_file(extension):
    named = extension.scene.file_operators._named_for
    assert named("spz", Path("a.compressed.ply")) == Path("a.spz")
    assert named("compressed_ply", Path("a.v2.ply"), "_0001") == Path("a.v2_0001.compressed.ply")
    assert named("ply", Path("a.v2")) == Path("a.v2.ply")


def test_a_name_without_a_known_ending_is_refused_in_words(extension, tmp_path):
    write_ply(tmp_path / "a.ply", make_cloud(10))
    import_splats(tmp_path / "a.ply")
    with pytest.raises(RuntimeError, match="no such files of splats are written"):
        bpy.ops.diorama.export_splats(filepath=str(tmp_path / "b.obj"))
    assert not (tmp_path / "b.obj").exists()
    assert bpy.ops.diorama.export_splats(filepath=str(tmp_path / "b.obj"), kind="spz") == {"FINISHED"}
    assert splat_formats.format_of(tmp_path / "b.obj") == "spz"


@pytest.mark.parametrize("kind", splat_formats.FORMATS)
def test_a_cut_file_of_any_format_changes_nothing(extension, tmp_path, kind):
    path = tmp_path / "cut"
    if kind == "ksplat":
        path.write_bytes((DATA / "mkkellogg_1.ksplat").read_bytes())
    else:
        splat_formats.write_splats(path, make_cloud(40), extension.scene.webp.encode, kind=kind)
    path.write_bytes(path.read_bytes()[:-33])
    kinds = ("objects", "meshes", "node_groups", "materials", "images")
    before = [len(getattr(bpy.data, name)) for name in kinds]
    with pytest.raises(RuntimeError, match="E_PLY"):
        bpy.ops.diorama.import_splats(filepath=str(path))
    assert before == [len(getattr(bpy.data, name)) for name in kinds]
    assert len(bpy.context.scene.view_layers) == 1


def test_dropped_files_find_the_dialog(extension):
    endings = bpy.types.DIORAMA_FH_splats.bl_file_extensions.split(";")
    assert {".ply", ".spz", ".sog", ".splat", ".ksplat", ".glb", ".npz"} == set(endings)
    assert not bpy.types.DIORAMA_FH_splats.poll_drop(bpy.context)  # outside of a 3D view


def test_dropped_files_are_imported_as_blender_calls_the_operator(extension, tmp_path):
    handler = bpy.types.DIORAMA_FH_splats
    assert handler.is_registered
    category, name = handler.bl_import_operator.split(".")
    dropped = ["original.ply", "gsply_v4.spz", "splat_transform.sog", "mkkellogg_0.ksplat"]
    for path in (DATA / each for each in dropped):
        assert path.suffix in handler.bl_file_extensions
        run = getattr(getattr(bpy.ops, category), name)
        done = run(filepath=str(path), directory=str(path.parent), files=[{"name": path.name}])
        assert done == {"FINISHED"} and len(bpy.context.active_object.data.vertices) == 60
    assert len(bpy.context.scene.objects) == len(dropped)
