"""Renders of splats in Blender equal the reference, whatever the camera and the object do."""

from __future__ import annotations

import dataclasses

import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix

from tests.blender.scene_helpers import add_camera, make_cloud, orbit, pixel_size, prepare, render, render_png
from tests.blender.splat_reference import linear_to_srgb, psnr, srgb_to_linear
from tests.blender.splat_reference import render as reference

pytestmark = pytest.mark.usefixtures("nodes")
SIZE = 96
FOV = 40.0
EEVEE = "BLENDER_EEVEE" if bpy.app.version >= (5, 0) else "BLENDER_EEVEE_NEXT"
PLACED = np.array(Matrix.LocRotScale((0.1, -0.2, 0.15), Euler((0.5, 0.3, 2.0)), (1.3, 0.6, 0.9)))


@pytest.fixture
def add_splats(extension):
    def add(cloud, blending="linear"):
        scene = bpy.context.scene
        splats = extension.scene.splats.splat_object(
            "splats", extension.scene.splats.splat_mesh("splats", cloud), blending
        )
        scene.collection.objects.link(splats)
        extension.scene.render.raise_bounces(scene)
        return splats

    return add


def set_input(extension, splats, name, value):
    modifier = extension.scene.splats.splat_modifier(splats)
    extension.scene.modifier_inputs.set_inputs(modifier, **{name.replace(" ", "_"): value})


@pytest.mark.parametrize("view", range(4))
def test_cycles_shows_splats_exactly_from_every_side(add_splats, tmp_path, view):
    cloud, pose = make_cloud(), orbit(4)[view]
    add_splats(cloud)
    prepare(SIZE, SIZE)
    add_camera(pose, FOV)
    expected = reference(cloud, pose, SIZE, SIZE, pixel=pixel_size(FOV, SIZE))
    assert psnr(render(tmp_path), expected) > 70


def test_rotated_and_stretched_splats_keep_their_harmonics(add_splats, tmp_path):
    cloud, pose = make_cloud(degree=3), orbit(4)[1]
    splats = add_splats(cloud)
    splats.matrix_world = Matrix(PLACED.tolist())
    prepare(SIZE, SIZE)
    add_camera(pose, FOV)
    expected = reference(cloud, pose, SIZE, SIZE, pixel=pixel_size(FOV, SIZE), world_from_object=PLACED)
    assert psnr(render(tmp_path), expected) > 70


def test_mirrored_object_looks_as_its_splats_mirrored_one_by_one(add_splats, tmp_path):
    cloud = make_cloud(80, degree=3)
    odd_in_x = [3, 4, 7, 10, 13, 15]  # of the harmonics: x, xy, xz, xyz, x(4zz-xx-yy), x(xx-3yy)
    mirrored = dataclasses.replace(
        cloud,
        means=cloud.means * np.float32([-1, 1, 1]),
        quats=cloud.quats * np.float32([1, 1, -1, -1]),
        sh=cloud.sh * np.where(np.isin(np.arange(16), odd_in_x), -1, 1).astype(np.float32)[:, None],
    )
    splats = add_splats(cloud)
    splats.scale.x = -1
    prepare(48, 48)
    add_camera(orbit(4)[1], FOV)
    seen = render(tmp_path)
    bpy.data.objects.remove(splats)
    add_splats(mirrored)
    assert psnr(seen, render(tmp_path)) > 70


def test_what_is_nearer_than_clip_start_is_not_seen(add_splats, tmp_path):
    cloud, pose = make_cloud(), orbit(4)[0]
    splats = add_splats(cloud)
    prepare(48, 48)
    add_camera(pose, FOV).data.clip_start = 2.6
    seen = render(tmp_path)
    beyond = (pose[:3, 3] - cloud.means) @ pose[:3, 2] > 2.6
    assert 100 < beyond.sum() < 200
    bpy.data.objects.remove(splats)
    add_splats(type(cloud)(**{name: values[beyond] for name, values in vars(cloud).items()}))
    bpy.context.scene.camera.data.clip_start = 0.01
    assert psnr(seen, render(tmp_path)) > 70


def test_splats_follow_a_parent(add_splats, tmp_path):
    cloud, pose = make_cloud(degree=1), orbit(4)[3]
    splats = add_splats(cloud)
    splats.parent = bpy.data.objects.new("parent", None)
    splats.parent.matrix_world = Matrix(PLACED.tolist())
    bpy.context.scene.collection.objects.link(splats.parent)
    prepare(SIZE, SIZE)
    add_camera(pose, FOV)
    expected = reference(cloud, pose, SIZE, SIZE, pixel=pixel_size(FOV, SIZE), world_from_object=PLACED)
    assert psnr(render(tmp_path), expected) > 70


@pytest.mark.parametrize(
    ("width", "height", "fit"), [(120, 72, "AUTO"), (72, 120, "AUTO"), (72, 120, "HORIZONTAL")]
)
def test_shifted_lens_and_any_format(add_splats, tmp_path, width, height, fit):
    cloud, pose = make_cloud(), orbit(4)[2]
    add_splats(cloud)
    scene = prepare(2 * width, 2 * height)
    scene.render.resolution_percentage = 50
    camera = add_camera(pose, FOV).data
    camera.sensor_fit, camera.shift_x, camera.shift_y = fit, 0.15, -0.1
    side = width if fit == "HORIZONTAL" else max(width, height)
    expected = reference(
        cloud, pose, width, height, pixel=pixel_size(FOV, side), shift=(0.15 * side, -0.1 * side)
    )
    assert psnr(render(tmp_path), expected) > 70


@pytest.mark.parametrize(("x", "y"), [(1.0, 1.5), (2.0, 1.0)])
def test_pixels_that_are_not_square(add_splats, tmp_path, x, y):
    cloud, pose = make_cloud(), orbit(4)[2]
    add_splats(cloud)
    scene = prepare(90, 80)
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = x, y
    add_camera(pose, FOV)
    pixel = pixel_size(FOV, max(90, 80 * y / x))
    expected = reference(cloud, pose, 90, 80, pixel=pixel, aspect=y / x)
    assert psnr(render(tmp_path), expected) > 70


def test_orthographic_camera(add_splats, tmp_path):
    cloud, pose = make_cloud(), orbit(4)[0]
    add_splats(cloud)
    prepare(SIZE, SIZE)
    camera = add_camera(pose).data
    camera.type, camera.ortho_scale = "ORTHO", 2.0
    expected = reference(cloud, pose, SIZE, SIZE, pixel=2.0 / SIZE, orthographic=True)
    assert psnr(render(tmp_path), expected) > 70


def test_splats_behind_and_beside_a_camera_inside_the_cloud(add_splats, tmp_path):
    cloud, pose = make_cloud(), orbit(4, radius=0.3)[1]
    add_splats(cloud)
    prepare(SIZE, SIZE)
    add_camera(pose, FOV).data.clip_start = 0.001
    expected = reference(cloud, pose, SIZE, SIZE, pixel=pixel_size(FOV, SIZE))
    assert psnr(render(tmp_path), expected) > 70


def test_animated_camera_and_markers_are_followed(add_splats, tmp_path):
    cloud, poses = make_cloud(100), orbit(3)
    add_splats(cloud)
    scene = prepare(SIZE, SIZE)
    for frame, fov in ((1, 30.0), (2, 50.0)):
        camera = add_camera(poses[frame], fov)
        scene.timeline_markers.new("view", frame=frame).camera = camera
    for frame, fov in ((1, 30.0), (2, 50.0)):
        scene.frame_set(frame)
        expected = reference(cloud, poses[frame], SIZE, SIZE, pixel=pixel_size(fov, SIZE))
        assert psnr(render(tmp_path), expected) > 70


def test_linear_splats_under_standard_are_linear_compositing_seen_in_srgb(add_splats, tmp_path):
    cloud, pose = make_cloud(), orbit(4)[0]
    add_splats(cloud)
    prepare(SIZE, SIZE).view_settings.view_transform = "Standard"
    add_camera(pose, FOV)
    expected = linear_to_srgb(reference(cloud, pose, SIZE, SIZE, pixel=pixel_size(FOV, SIZE)))
    assert psnr(render_png(tmp_path), expected) > 52  # 256 steps allow 59


def test_eevee_shows_splats_exactly(add_splats, tmp_path):
    cloud, pose = make_cloud(200, degree=1), orbit(4)[2]
    add_splats(cloud)
    prepare(48, 48, EEVEE)
    add_camera(pose, FOV)
    expected = reference(cloud, pose, 48, 48, pixel=pixel_size(FOV, 48))
    assert psnr(render(tmp_path), expected) > 50


INPUTS = {
    "Opacity": (0.4, lambda c: dict(opacities=c.opacities * np.float32(0.4))),
    "Size": (1.5, lambda c: dict(scales=c.scales * np.float32(1.5))),
}


@pytest.mark.parametrize("name", INPUTS)
def test_modifier_inputs_change_all_splats(extension, add_splats, tmp_path, name):
    cloud, pose = make_cloud(), orbit(4)[0]
    splats = add_splats(cloud)
    value, change = INPUTS[name]
    set_input(extension, splats, name, value)
    prepare(SIZE, SIZE)
    add_camera(pose, FOV)
    changed = type(cloud)(**(vars(cloud) | change(cloud)))
    expected = reference(changed, pose, SIZE, SIZE, pixel=pixel_size(FOV, SIZE))
    assert psnr(render(tmp_path), expected) > 70


@pytest.mark.parametrize("sphere", [False, True])
def test_crop_keeps_what_is_inside(extension, add_splats, tmp_path, sphere):
    cloud, pose = make_cloud(), orbit(4)[0]
    splats = add_splats(cloud)
    crop = bpy.data.objects.new("crop", None)
    crop.location, crop.scale = (0.2, 0, 0), (0.4, 0.3, 0.5)
    bpy.context.scene.collection.objects.link(crop)
    for name, value in (("Crop", True), ("Crop Object", crop), ("Crop Sphere", sphere)):
        set_input(extension, splats, name, value)
    place = (cloud.means - np.array([0.2, 0, 0])) / np.array([0.4, 0.3, 0.5])
    inside = np.linalg.norm(place, axis=1) < 1 if sphere else np.abs(place).max(axis=1) < 1
    kept = type(cloud)(**{name: values[inside] for name, values in vars(cloud).items()})
    assert 10 < len(kept) < len(cloud) - 10
    prepare(SIZE, SIZE)
    add_camera(pose, FOV)
    expected = reference(kept, pose, SIZE, SIZE, pixel=pixel_size(FOV, SIZE))
    assert psnr(render(tmp_path), expected) > 70


def test_splats_and_meshes_hide_each_other_by_depth(add_splats, tmp_path):
    cloud, pose = make_cloud(), orbit(4)[0]
    add_splats(cloud)
    scene = prepare(SIZE, SIZE)
    camera = add_camera(pose, FOV)
    wall = bpy.data.meshes.new("wall")
    wall.from_pydata([(-3, -3, -2.6), (3, -3, -2.6), (3, 3, -2.6), (-3, 3, -2.6)], [], [(0, 1, 2, 3)])
    black = bpy.data.materials.new("black")
    if black.node_tree is None:
        black.use_nodes = True
    black.node_tree.nodes.clear()
    wall.materials.append(black)
    body = bpy.data.objects.new("wall", wall)
    body.parent = camera
    scene.collection.objects.link(body)
    depth = -(cloud.means @ np.linalg.inv(pose)[2, :3] + np.linalg.inv(pose)[2, 3])
    before = type(cloud)(**{name: values[depth < 2.6] for name, values in vars(cloud).items()})
    expected = reference(before, pose, SIZE, SIZE, pixel=pixel_size(FOV, SIZE))
    assert psnr(render(tmp_path), expected) > 60


def test_tint_and_brightness_multiply_light(extension, add_splats, tmp_path):
    cloud, pose = make_cloud(), orbit(4)[0]
    splats = add_splats(cloud)
    set_input(extension, splats, "Tint", (1.0, 0.5, 0.0, 1.0))
    set_input(extension, splats, "Brightness", 0.5)
    prepare(SIZE, SIZE)
    add_camera(pose, FOV)
    expected = reference(cloud, pose, SIZE, SIZE, pixel=pixel_size(FOV, SIZE)) * (0.5, 0.25, 0)
    assert psnr(render(tmp_path), expected) > 70


def test_density_thins_out(extension, add_splats, tmp_path):
    splats = add_splats(make_cloud(2000))
    add_camera(orbit(1, radius=9)[0])
    set_input(extension, splats, "Density", 0.25)
    set_input(extension, splats, "Free View", False)
    mesh = splats.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    offsets = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.attributes["splat_offset"].data.foreach_get("vector", offsets)
    shown = np.mean(np.abs(offsets.reshape(-1, 12)).max(axis=1) > 0)
    assert shown == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("blending", ["linear", "display"])
def test_splats_are_seen_from_any_side_in_the_viewport(add_splats, blending):
    """Without a camera: flat along the two largest axes, in a material that needs no order."""
    cloud = make_cloud()
    cloud.opacities[:] = np.maximum(cloud.opacities, 0.1)  # fainter ones are left out
    mesh = add_splats(cloud, blending).evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    # From 5.3, Blender's grid brings an empty slot of its own, which no face uses.
    (material,) = {mesh.materials[face.material_index] for face in mesh.polygons}
    assert material.name == "Diorama Splats Preview"
    assert material.surface_render_method == "DITHERED"
    corners = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", corners)
    corners = corners.reshape(-1, 4, 3)
    np.testing.assert_allclose(corners.mean(axis=1), cloud.means, atol=1e-5)
    edges = np.stack([corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]], axis=1)
    lengths = np.sort(np.linalg.norm(edges, axis=-1), axis=1) / 2
    np.testing.assert_allclose(lengths, 1.5 * np.sort(cloud.scales, axis=1)[:, 1:], rtol=1e-3)
    colours = np.empty(len(cloud) * 4 * 4, np.float32)
    assert mesh.attributes["splat_color"].domain == "CORNER"  # which Solid's Attribute can show
    mesh.attributes["splat_color"].data.foreach_get("color", colours)
    expected = srgb_to_linear(0.5 + 0.28209479177387814 * cloud.sh[:, 0])
    for corner in range(4):
        np.testing.assert_allclose(colours.reshape(-1, 4, 4)[:, corner, :3], expected, atol=1e-5)


def test_linked_duplicate_is_seen_from_where_it_stands(add_splats, tmp_path):
    cloud, pose = make_cloud(degree=2), orbit(4)[2]
    splats = add_splats(cloud)
    copy = splats.copy()
    copy.matrix_world = Matrix(PLACED.tolist())
    bpy.context.scene.collection.objects.link(copy)
    splats.hide_render = True
    prepare(SIZE, SIZE)
    add_camera(pose, FOV)
    expected = reference(cloud, pose, SIZE, SIZE, pixel=pixel_size(FOV, SIZE), world_from_object=PLACED)
    assert copy.data == splats.data
    assert psnr(render(tmp_path), expected) > 70


def test_motion_blur_is_the_mean_over_the_shutter(add_splats, tmp_path):
    cloud, pose = make_cloud(150), orbit(4)[0]
    splats = add_splats(cloud)
    scene = prepare(48, 48)
    add_camera(pose, FOV)
    for frame, angle in ((0, -0.3), (2, 0.3)):
        splats.rotation_euler.z = angle
        splats.keyframe_insert("rotation_euler", frame=frame)
    moments = []
    for time in np.linspace(0.5, 1.5, 33):
        scene.frame_set(int(time), subframe=time % 1)
        moments.append(np.array(splats.matrix_world))
    scene.frame_set(1)
    scene.render.use_motion_blur, scene.render.motion_blur_shutter = True, 1.0
    scene.cycles.samples = 128
    options = {"pixel": pixel_size(FOV, 48)}
    sharp = reference(cloud, pose, 48, 48, **options)
    expected = np.mean(
        [reference(cloud, pose, 48, 48, world_from_object=m, **options) for m in moments], axis=0
    )
    assert psnr(sharp, expected) < 30
    assert psnr(render(tmp_path), expected) > 42


def test_lit_splats_take_light_and_cast_shadows(extension, add_splats, tmp_path):
    scene = prepare(SIZE, SIZE)
    add_camera(orbit(1)[0], FOV)
    splats = add_splats(make_cloud(400))
    set_input(extension, splats, "Lit", True)
    assert render(tmp_path).max() == 0  # no light yet
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy = 3
    scene.collection.objects.link(sun)
    floor = bpy.data.meshes.new("floor")
    floor.from_pydata([(-5, -5, -1.2), (5, -5, -1.2), (5, 5, -1.2), (-5, 5, -1.2)], [], [(0, 1, 2, 3)])
    scene.collection.objects.link(bpy.data.objects.new("floor", floor))
    scene.cycles.samples = 8
    with_splats = render(tmp_path)
    assert with_splats.mean() > 0.05
    splats.visible_camera = False  # only its shadow is left
    shadow = render(tmp_path)
    splats.hide_render = True
    assert shadow.mean() < 0.95 * render(tmp_path).mean()


def test_depth_of_field_is_the_mean_over_the_lens(add_splats, tmp_path):
    cloud, pose, size, focus = make_cloud(100), orbit(4)[0], 48, 2.6
    add_splats(cloud)
    scene = prepare(size, size)
    camera = add_camera(pose, FOV).data
    camera.dof.use_dof, camera.dof.focus_distance, camera.dof.aperture_fstop = True, focus, 0.12
    scene.cycles.samples = 256
    pixel, radius = pixel_size(FOV, size), camera.lens / 1000 / 0.12 / 2
    expected = np.zeros((size, size, 3))
    for i in range(200):  # a sunflower of pinholes, each shifted so that what is in focus stays in place
        x, y = radius * np.sqrt((i + 0.5) / 200) * np.array([np.cos(2.39996 * i), np.sin(2.39996 * i)])
        pinhole = pose.copy()
        pinhole[:3, 3] += pose[:3, 0] * x + pose[:3, 1] * y
        shift = (-x / focus / pixel, -y / focus / pixel)
        expected += reference(cloud, pinhole, size, size, pixel=pixel, shift=shift) / 200
    assert psnr(reference(cloud, pose, size, size, pixel=pixel), expected) < 50
    assert psnr(render(tmp_path), expected) > 55
