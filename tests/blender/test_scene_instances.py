"""Instances of splats: what renders show of them is said, and made right."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix

from backend.shared.ply import write_ply
from tests.blender import splat_reference
from tests.blender.layout_helper import draw
from tests.blender.scene_helpers import add_camera, make_cloud, orbit, pixel_size, prepare, render
from tests.blender.splat_reference import psnr

pytestmark = pytest.mark.usefixtures("nodes")
SIZE = 64
POSE = orbit(4)[1]
PLACE = Matrix.Translation((0.2, 0.1, -0.1)) @ Euler((0.4, 0.7, 0.2)).to_matrix().to_4x4()


@pytest.fixture
def instanced(extension, tmp_path: Path):
    """Splats in a collection that the scene has as an instance only; moving ones of several clouds."""

    def put(*clouds, blending: str = "LINEAR") -> tuple[bpy.types.Object, bpy.types.Object]:
        names = [f"splats_{index}.ply" for index in range(len(clouds))]
        for name, cloud in zip(names, clouds, strict=True):
            write_ply(tmp_path / name, cloud)
        bpy.ops.diorama.import_splats(
            filepath=str(tmp_path / names[0]),
            directory=str(tmp_path),
            files=[{"name": name} for name in names],
            blending=blending,
        )
        body = bpy.context.view_layer.objects.active
        home = bpy.data.collections.new("asset")
        for each in list(body.users_collection):
            each.objects.unlink(body)
        home.objects.link(body)
        home.instance_offset = (0.1, 0, 0)
        instancer = bpy.data.objects.new("instance", None)
        instancer.instance_type, instancer.instance_collection = "COLLECTION", home
        instancer.matrix_world = PLACE
        bpy.context.scene.collection.objects.link(instancer)
        bpy.context.view_layer.objects.active = instancer
        bpy.context.view_layer.update()
        return instancer, body

    return put


def made_real(origin: bpy.types.Object) -> bpy.types.Object:
    assert bpy.ops.diorama.make_instances_real() == {"FINISHED"}
    return next(item for item in bpy.context.scene.objects if item.data == origin.data)


def test_instances_are_said_to_render_wrong_and_made_real_render_right(
    extension, instanced, tmp_path
) -> None:
    cloud = make_cloud(300, 2)
    instancer, origin = instanced(cloud)
    prepare(SIZE, SIZE)
    add_camera(POSE)
    expected = splat_reference.render(
        cloud,
        POSE,
        SIZE,
        SIZE,
        pixel=pixel_size(40, SIZE),
        world_from_object=np.array(PLACE @ Matrix.Translation((-0.1, 0, 0))),
    )
    scene = bpy.context.scene
    assert psnr(render(tmp_path), expected) < 30  # should Blender ever tell nodes where an instance is
    assert extension.scene.instances.obstacles(scene) == ["Instances of splats render wrong: instance"]
    assert bpy.types.DIORAMA_PT_instances.poll(bpy.context)
    shown = draw(extension.scene.panel.DIORAMA_PT_instances)
    assert shown == ["Instances of splats render wrong", "instance", "diorama.make_instances_real"]
    made_real(origin)
    assert psnr(render(tmp_path), expected) > 60
    assert extension.scene.instances.obstacles(scene) == []
    assert instancer.name in scene.objects and origin.name not in scene.objects
    with pytest.raises(RuntimeError, match="No object of the scene shows splats as instances"):
        bpy.ops.diorama.make_instances_real()


def test_moving_and_display_splats_stay_so_when_made_real(extension, instanced) -> None:
    _, origin = instanced(make_cloud(20, seed=1), make_cloud(20, seed=2), blending="DISPLAY")
    body = made_real(origin)
    assert [home.name for home in body.users_collection] == ["Display Splats"]
    found = []
    for frame in (1, 2):
        bpy.context.scene.frame_set(frame)
        evaluated = body.evaluated_get(bpy.context.evaluated_depsgraph_get())
        found.append(np.array([vertex.co for vertex in evaluated.data.vertices]))
    assert found[0].shape == found[1].shape and not np.allclose(found[0], found[1])


@pytest.mark.parametrize("by", ["vertices", "particles", "nodes"])
def test_instances_of_every_kind_are_said(extension, instanced, by: str) -> None:
    instancer, body = instanced(make_cloud(5))
    bpy.data.objects.remove(instancer)
    scene = bpy.context.scene
    scene.collection.objects.link(body)
    assert extension.scene.instances.obstacles(scene) == []
    bpy.ops.mesh.primitive_plane_add()
    plane = bpy.context.active_object
    if by == "vertices":
        body.parent, plane.instance_type = plane, "VERTS"
    elif by == "particles":
        settings = plane.modifiers.new("particles", "PARTICLE_SYSTEM").particle_system.settings
        settings.render_type, settings.instance_object = "OBJECT", body
    else:
        group = bpy.data.node_groups.new("scatter", "GeometryNodeTree")
        group.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
        group.interface.new_socket("Thing", in_out="INPUT", socket_type="NodeSocketObject")
        modifier = plane.modifiers.new("scatter", "NODES")
        modifier.node_group = group
        extension.scene.modifier_inputs.set_inputs(modifier, Thing=body)
    assert extension.scene.instances.obstacles(scene) == ["Instances of splats render wrong: Plane"]
