"""Drawing in the 3D view, without a GPU: order, covariances, colours, and what the nodes hand over."""

from __future__ import annotations

import importlib

import bpy
import numpy as np
import pytest

from backend.shared.ply import write_ply
from tests.blender.scene_helpers import add_camera, make_cloud, orbit
from tests.blender.splat_reference import harmonics, rotations, srgb_to_linear

pytestmark = pytest.mark.usefixtures("nodes")


@pytest.fixture
def shapes(extension):
    return importlib.import_module(f"{extension.__name__}.scene.splat_shapes")


@pytest.fixture
def body(extension, tmp_path):
    write_ply(tmp_path / "blob.ply", make_cloud(200))
    bpy.ops.diorama.import_splats(filepath=str(tmp_path / "blob.ply"), blending="LINEAR")
    add_camera(orbit(1)[0])
    return bpy.data.objects["blob"]


def evaluated(body):
    return body.evaluated_get(bpy.context.evaluated_depsgraph_get()).data


def test_farthest_splats_come_first_from_every_side(shapes):
    means = make_cloud(3000).means
    for pose in orbit(5):
        towards = pose[:3, 2]
        nearness = (means @ towards)[shapes.back_to_front(means, towards)]
        step = np.ptp(nearness) / 65535
        assert sorted(shapes.back_to_front(means, towards)) == list(range(3000))
        assert np.diff(nearness).min() > -2 * step


def test_order_of_one_or_no_splats_is_known(shapes):
    assert shapes.back_to_front(np.zeros((0, 3), np.float32), np.array([0, 0, 1])).tolist() == []
    assert shapes.back_to_front(np.zeros((1, 3), np.float32), np.array([0, 0, 1])).tolist() == [0]


def test_covariances_are_those_of_the_turned_and_stretched_axes(shapes):
    cloud = make_cloud(50)
    axes = rotations(cloud.quats) * cloud.scales[:, None, :] * 2
    expected = (axes @ axes.transpose(0, 2, 1))[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    np.testing.assert_allclose(shapes.covariances(cloud, 2.0), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_colours_are_those_of_the_harmonics_seen_from_the_camera(shapes, degree):
    cloud, camera = make_cloud(50, degree), np.array([2.0, -1.0, 0.5])
    direction = cloud.means - camera
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    basis = harmonics(direction)[:, : (degree + 1) ** 2]
    expected = srgb_to_linear(0.5 + np.einsum("nk,nkc->nc", basis, cloud.sh)) * [1, 0.5, 2]
    found = shapes.colours(cloud, camera, 3, (1, 0.5, 2), 0.5, linear=True)
    np.testing.assert_allclose(found[:, :3], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[:, 3], cloud.opacities / 2, rtol=1e-6)


def test_nodes_draw_quads_unless_the_add_on_draws(body):
    assert len(evaluated(body).polygons) == 200
    bpy.context.scene.diorama_draw_splats = True
    bpy.context.view_layer.update()
    mesh = evaluated(body)
    assert (len(mesh.vertices), len(mesh.polygons)) == (200, 0)
    assert {"rotation", "scale", "opacity", "sh_0"} <= set(mesh.attributes.keys())


def test_dots_of_faint_splats_are_put_into_a_strong_one(body):
    cloud = make_cloud(200)
    bpy.context.scene.diorama_draw_splats = True
    bpy.context.view_layer.update()
    mesh = evaluated(body)
    points, centres = np.empty((2, 200, 3), np.float32)
    mesh.vertices.foreach_get("co", points.ravel())
    mesh.attributes["splat_centre"].data.foreach_get("vector", centres.ravel())
    np.testing.assert_allclose(centres, cloud.means, atol=1e-5)
    strong = cloud.opacities >= cloud.opacities.max() / 2
    assert 0 < strong.sum() < 200
    np.testing.assert_array_equal(points[strong], centres[strong])
    np.testing.assert_array_equal(points[~strong], np.repeat(centres[strong][:1], (~strong).sum(), axis=0))


def test_nodes_draw_again_when_the_add_on_is_gone(body, extension):
    bpy.context.scene.diorama_draw_splats = True
    bpy.context.view_layer.update()
    assert len(evaluated(body).polygons) == 0
    bpy.ops.preferences.addon_disable(module=extension.__name__)
    try:
        assert len(evaluated(body).polygons) == 200
    finally:
        bpy.ops.preferences.addon_enable(module=extension.__name__)


def test_lit_and_exact_splats_are_left_to_the_nodes(body, extension):
    inputs = importlib.import_module(f"{extension.__name__}.scene.modifier_inputs")
    bpy.context.scene.diorama_draw_splats = True
    for changed in ({"Lit": True}, {"Lit": False, "Free_View": False}):
        inputs.set_inputs(body.modifiers[0], **changed)
        bpy.context.view_layer.update()
        assert len(evaluated(body).polygons) == 200
