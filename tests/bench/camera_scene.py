"""Makes `docs/camera.blend`, a toy and a camera that sees it, for `make demo CAMERA=1`.

python -m tests.bench.camera_scene docs/camera.blend     # in a Python that has bpy, of the oldest Blender
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import bpy

COLORS = {"red": (0.6, 0.02, 0.02), "white": (0.8, 0.8, 0.8), "blue": (0.02, 0.1, 0.6)}
SAMPLES = 16


def main() -> None:
    """Writes the file, without what only Blender's window needs."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    _rocket()
    scene = bpy.context.scene
    bpy.ops.object.light_add(type="SUN", rotation=(math.radians(40), 0, math.radians(35)))
    bpy.context.object.data.energy, bpy.context.object.data.angle = 2.5, 0.3
    scene.world = bpy.data.worlds.new("World")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs[0].default_value = (0.5, 0.5, 0.5, 1)
    up = math.radians(15)
    bpy.ops.object.camera_add(
        location=(0, -6 * math.cos(up), 1.1 + 6 * math.sin(up)), rotation=(math.pi / 2 - up, 0, 0)
    )
    bpy.context.object.data.angle = math.radians(35)
    scene.camera = bpy.context.object
    scene.render.engine, scene.cycles.samples = "CYCLES", SAMPLES
    scene.render.resolution_x = scene.render.resolution_y = 512
    bpy.ops.wm.save_as_mainfile(filepath=str(Path(sys.argv[1]).resolve()), compress=True)


def _rocket() -> None:
    """Parts as an artist would put them together: primitives, each of one colour."""
    bpy.ops.mesh.primitive_cylinder_add(radius=0.45, depth=1.3, location=(0, 0, 1.0), vertices=48)
    _paint("Body", "white")
    bpy.ops.mesh.primitive_cone_add(radius1=0.45, depth=0.7, location=(0, 0, 2.0), vertices=48)
    _paint("Nose", "red")
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.2, location=(0, -0.38, 1.2))
    _paint("Window", "blue")
    for number in range(4):
        angle = math.radians(45 + 90 * number)
        bpy.ops.mesh.primitive_cube_add(
            size=1, location=(0.55 * math.cos(angle), 0.55 * math.sin(angle), 0.45), rotation=(0, 0, angle)
        )
        bpy.context.object.scale = (0.5, 0.12, 0.6)
        _paint("Fin", "red")


def _paint(name: str, color: str) -> None:
    body = bpy.context.object
    body.name = name
    material = bpy.data.materials.get(color) or bpy.data.materials.new(color)
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*COLORS[color], 1)
    shader.inputs["Roughness"].default_value = 0.9
    body.data.materials.append(material)
    if body.data.polygons and name != "Fin":
        body.data.polygons.foreach_set("use_smooth", [True] * len(body.data.polygons))


if __name__ == "__main__":
    main()
