"""The mesh of an asset stands where the splats stand, wears its texture, and brings nothing else along."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from backend.shared.asset import write_asset
from backend.shared.protocol import DioramaError
from tests.blender.scene_helpers import orbit
from tests.gaussians.box import GLB, box

pytestmark = pytest.mark.usefixtures("nodes")


@pytest.fixture(scope="module")
def glb() -> bytes:
    """The mesh that the backend made of the box."""
    return GLB.read_bytes()


def write(folder: Path, mesh: bytes | None, front: str = "+X") -> Path:
    return write_asset(
        folder,
        request={"prompt": "a box", "seed": 3},
        model="starter",
        clouds=[box()],
        views=np.full((2, 1, 8, 8, 3), 0.5),
        cameras=orbit(2),
        fov_deg=40.0,
        blending="linear",
        timings={},
        front=front,
        mesh=mesh,
    )


def bring_in(extension, folder: Path, reports: list[str] | None = None) -> bpy.types.Collection:
    report = reports.append if reports is not None else (lambda change: None)
    return extension.scene.import_asset(bpy.context, folder, report=report)


def state() -> dict:
    """Every datablock, and what is selected and active."""
    kinds = (
        "objects", "collections", "meshes", "cameras", "images", "materials", "node_groups", "actions",
        "scenes", "textures", "worlds", "texts",
    )  # fmt: skip
    return {
        **{kind: sorted(item.name for item in getattr(bpy.data, kind)) for kind in kinds},
        "scene": bpy.context.scene.name,
        "selected": sorted(item.name for item in bpy.context.selected_objects),
        "active": getattr(bpy.context.view_layer.objects.active, "name", None),
    }


def shown_mesh(collection: bpy.types.Collection) -> bpy.types.Object:
    """The mesh as an artist sees it who shows it: what is hidden has no place in the world yet."""
    mesh = collection.objects["a box mesh"]
    mesh.hide_viewport = False
    bpy.context.view_layer.update()
    return mesh


def world_points(body: bpy.types.Object) -> np.ndarray:  # [N, 3]
    points = np.array([vertex.co[:] for vertex in body.data.vertices])
    matrix = np.array(body.matrix_world)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


@pytest.mark.parametrize("front", ["+X", "-Y"])
def test_mesh_fills_the_box_that_the_splats_fill(extension, glb, tmp_path, front):
    collection = bring_in(extension, write(tmp_path, glb, front))
    mesh = shown_mesh(collection)
    (splats,) = extension.scene.splat_objects(collection)
    matrix = np.array(splats.matrix_world)
    expected = box().means @ matrix[:3, :3].T + matrix[:3, 3]
    points = world_points(mesh)
    np.testing.assert_allclose(points.min(0), expected.min(0), atol=0.03)  # a cell is 0.02
    np.testing.assert_allclose(points.max(0), expected.max(0), atol=0.03)
    assert mesh.parent == splats.parent and mesh.parent.type == "EMPTY"
    if front == "+X":
        assert np.ptp(points[:, 1]) > 0.95  # the long side looks at the viewer of the front view


def test_texture_lies_on_the_side_where_it_belongs(extension, glb, tmp_path):
    mesh = shown_mesh(bring_in(extension, write(tmp_path, glb)))
    (material,) = mesh.data.materials
    (link,) = [
        link for link in material.node_tree.links
        if link.to_socket.name == "Base Color" and link.from_node.type == "TEX_IMAGE"
    ]  # fmt: skip
    image = link.from_node.image
    assert image.packed_file and image.colorspace_settings.name == "sRGB"
    width, height = image.size
    pixels = np.array(image.pixels[:]).reshape(height, width, -1)[..., :3]
    uv = np.array([corner.uv[:] for corner in mesh.data.uv_layers.active.data])
    normals = (
        np.array(mesh.matrix_world.to_3x3().normalized())
        @ np.array([p.normal[:] for p in mesh.data.polygons]).T
    )
    found = []
    for side in ((0, -1, 0), (1, 0, 0), (0, 0, 1), (0, 1, 0)):  # +X, +Y, +Z, -X of the splats
        faces = [p for p, facing in zip(mesh.data.polygons, side @ normals, strict=True) if facing > 0.95]
        middles = np.array([uv[list(p.loop_indices)].mean(0) for p in faces])
        texels = (middles * (width, height)).astype(int)
        found.append(np.median(pixels[texels[:, 1], texels[:, 0]], 0))
    expected = [[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9], [0.1, 0.1, 0.1]]
    np.testing.assert_allclose(found, expected, atol=0.06)


def test_mesh_is_hidden_smooth_and_in_one_piece(extension, glb, tmp_path):
    mesh = bring_in(extension, write(tmp_path, glb)).objects["a box mesh"]
    assert mesh.hide_viewport and mesh.hide_render
    assert mesh.data.name == mesh.data.materials[0].name == "a box mesh"
    assert all(polygon.use_smooth for polygon in mesh.data.polygons)
    edges = [edge for polygon in mesh.data.polygons for edge in polygon.edge_keys]
    assert np.mean(np.unique(edges, axis=0, return_counts=True)[1] == 2) > 0.99  # the seams are closed
    assert (mesh["prompt"], mesh["seed"], mesh["model"]) == ("a box", 3, "starter")


def test_solid_shading_shows_the_mean_colour_of_the_texture(extension, glb, tmp_path):
    mesh = shown_mesh(bring_in(extension, write(tmp_path, glb)))
    red, green, blue, _ = mesh.data.materials[0].diffuse_color
    assert green > blue * 1.05 > red * 1.1 > 0.02  # the green side is the largest, the red one the smallest


def test_import_leaves_only_the_mesh_besides_what_it_leaves_without_one(extension, glb, tmp_path):
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.object.empty_add()
    bpy.context.scene.unit_settings.scale_length = 0.01  # which the splats do not heed either
    bring_in(extension, write(tmp_path / "without", None))
    without = state()
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.object.empty_add()
    bpy.context.scene.unit_settings.scale_length = 0.01
    collection = bring_in(extension, write(tmp_path / "with", glb))
    with_mesh = state()
    for kind in ("objects", "meshes", "images", "materials"):
        assert with_mesh.pop(kind) == sorted([*without.pop(kind), "a box mesh"])
    assert with_mesh == without and with_mesh["active"] == "a box splats"
    assert np.ptp(world_points(shown_mesh(collection))[:, 1]) == pytest.approx(1, abs=0.1)


def test_one_undo_takes_the_mesh_away_too(extension, glb, tmp_path):
    folder = write(tmp_path, glb)
    bpy.ops.ed.undo_push(message="before")
    before = state()
    assert bpy.ops.diorama.import_asset(directory=str(folder)) == {"FINISHED"}
    bpy.ops.ed.undo_push(message="import")
    assert "a box mesh" in bpy.data.objects
    bpy.ops.ed.undo()
    assert state() == before


@pytest.mark.parametrize("damage", ["not a GLB", "cut"])
def test_unreadable_mesh_leaves_the_scene_alone(extension, glb, tmp_path, damage):
    folder = write(tmp_path, b"mesh" if damage == "not a GLB" else glb[: len(glb) // 2])
    before = state()
    with pytest.raises(Exception, match=r"mesh\.glb") as caught:
        bring_in(extension, folder)
    assert type(caught.value).__name__ == DioramaError.__name__ and caught.value.code == "E_ASSET"
    assert state() == before


def test_without_blenders_importer_the_rest_is_imported_and_says_so(extension, glb, tmp_path):
    reports: list[str] = []
    bpy.ops.preferences.addon_disable(module="io_scene_gltf2")
    try:
        collection = bring_in(extension, write(tmp_path, glb), reports)
    finally:
        bpy.ops.preferences.addon_enable(module="io_scene_gltf2")
    assert extension.scene.splat_objects(collection)
    assert "a box mesh" not in collection.objects
    assert any("glTF" in report for report in reports)
