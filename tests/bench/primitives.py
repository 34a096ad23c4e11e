"""Renders Blender's primitives and Suzanne from the starter's cameras: what does it make of the first view?

    python -m tests.bench.primitives DIR                          # in a Python that has bpy
    python -m backend evaluate starter --photos DIR --out OUT     # the table, and pictures

Each gets a folder of eight views of 192 px by Cycles, `0.png` from its front.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import bpy
import numpy as np
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Matrix, Vector

VIEWS, SIZE_PX, SAMPLES = 8, 192, 16
ELEVATION_DEG, RADIUS, FOV_DEG = 15.0, 1.9, 39.6
FILLED = 200 / 256  # of the frame, by the longer side of the first view: as images are given to models
OBJECTS = {
    "cube": (bpy.ops.mesh.primitive_cube_add, (0.7, 0.1, 0.05)),
    "sphere": (bpy.ops.mesh.primitive_uv_sphere_add, (0.05, 0.2, 0.7)),
    "cylinder": (bpy.ops.mesh.primitive_cylinder_add, (0.1, 0.5, 0.1)),
    "cone": (bpy.ops.mesh.primitive_cone_add, (0.8, 0.5, 0.05)),
    "torus": (bpy.ops.mesh.primitive_torus_add, (0.7, 0.2, 0.5)),
    "icosphere": (bpy.ops.mesh.primitive_ico_sphere_add, (0.1, 0.6, 0.6)),
    "suzanne": (bpy.ops.mesh.primitive_monkey_add, (0.4, 0.2, 0.1)),
}


def main() -> None:
    """Renders all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, (add, color) in OBJECTS.items():
        bpy.ops.wm.read_factory_settings(use_empty=True)
        add()
        body = bpy.context.object
        body.rotation_euler[2] = math.pi / 2  # its front is -Y, and the first camera stands on +X
        if name in ("sphere", "cylinder", "torus", "suzanne"):
            bpy.ops.object.shade_smooth_by_angle()
        _paint(body, color)
        _light()
        cameras = [_camera(2 * math.pi * number / VIEWS) for number in range(VIEWS)]
        _fit(body, cameras[0])
        for number, camera in enumerate(cameras):
            bpy.context.scene.camera = camera
            bpy.context.scene.render.filepath = str((folder / name / f"{number}.png").resolve())
            bpy.ops.render.render(write_still=True)


def _paint(body: bpy.types.Object, color: tuple[float, float, float]) -> None:
    material = bpy.data.materials.new("Paint")
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*color, 1)
    shader.inputs["Roughness"].default_value = 0.8
    body.data.materials.append(material)


def _light() -> None:
    scene = bpy.context.scene
    bpy.ops.object.light_add(type="SUN", rotation=(0.6, 0.3, 0))
    bpy.context.object.data.energy = 2.5
    scene.world = bpy.data.worlds.new("World")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs[0].default_value = (0.45, 0.45, 0.45, 1)
    scene.render.engine, scene.cycles.samples = "CYCLES", SAMPLES
    scene.render.film_transparent = True
    scene.render.resolution_x = scene.render.resolution_y = SIZE_PX
    scene.render.image_settings.color_mode = "RGBA"


def _camera(azimuth: float) -> bpy.types.Object:
    camera = bpy.data.objects.new("View", bpy.data.cameras.new("View"))
    camera.data.angle = math.radians(FOV_DEG)
    up = math.radians(ELEVATION_DEG)
    towards = Vector((math.cos(azimuth) * math.cos(up), math.sin(azimuth) * math.cos(up), math.sin(up)))
    camera.matrix_world = (
        Matrix.Translation(RADIUS * towards) @ towards.to_track_quat("Z", "Y").to_matrix().to_4x4()
    )
    bpy.context.scene.collection.objects.link(camera)
    return camera


def _fit(body: bpy.types.Object, camera: bpy.types.Object) -> None:
    """Scales the object until it fills the camera's image as it should, in the middle."""
    scene = bpy.context.scene
    for _ in range(6):
        bpy.context.view_layer.update()
        corners = np.array([body.matrix_world @ vertex.co for vertex in body.data.vertices])
        body.location = Vector(body.location) - Vector((corners.min(0) + corners.max(0)) / 2)
        bpy.context.view_layer.update()
        seen = np.array(
            [
                world_to_camera_view(scene, camera, body.matrix_world @ vertex.co)
                for vertex in body.data.vertices
            ]
        )
        extent = float((seen[:, :2].max(0) - seen[:, :2].min(0)).max())
        body.scale = Vector(body.scale) * (FILLED / extent)
    bpy.context.view_layer.update()


if __name__ == "__main__":
    main()
