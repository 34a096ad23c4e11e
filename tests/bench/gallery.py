"""Renders a batch's results on a ground with a soft shadow, side by side: the README's gallery.

    python batch.py --jobs tests/bench/gallery.jsonl --out DIR …             # as docs/batch.md says
    python batch.py --blend docs/camera.blend --camera --out DIR/zz-camera …  # one from a camera
    python -m tests.bench.gallery DIR docs/gallery.jpg                       # in a Python that has bpy

Each is opened from its scene.blend, without the add-on. Below it stand its generated views, after the image
that it was made from if there was one. What moves becomes a loop beside the sheet, `NAME.gif`.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector
from PIL import Image

SIZE_PX, VIEW_PX, VIEWS = 480, 120, 4
LOOP_PX, LOOP_STEP = 240, 2
COLUMNS = 4
SAMPLES = 4
AZIMUTH_DEG, ELEVATION_DEG = 32.0, 16.0
ROOM = 1.25  # of the image around the object
THICK = 0.02  # of the object's radius: what casts the shadow of a splat
LOWEST = 0.5  # percentile of the splats that stands on the ground: a few float


def main() -> None:
    """Writes the sheet, if anything stands still."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="the folder of a batch")
    parser.add_argument("sheet", type=Path, help="the image to write, .png or .jpg")
    args = parser.parse_args()
    tiles = []
    for scene_file in sorted(args.results.glob("*/scene.blend")):
        asset = scene_file.parent / "asset"
        request = json.loads((asset / "asset.json").read_text("utf-8"))["request"]
        bpy.ops.wm.open_mainfile(filepath=str(scene_file))
        if request.get("frames"):
            _prepare(LOOP_PX)
            _loop(scene_file.with_name("frames"), args.sheet.with_name(f"{scene_file.parent.name}.gif"))
            continue
        _prepare(SIZE_PX)
        rendered = _resized(_render(scene_file.with_name("gallery.png")), SIZE_PX)
        views = sorted((asset / "views").rglob("*.png"))
        chosen = [views[i * len(views) // VIEWS] for i in range(VIEWS)]
        if request.get("image"):
            chosen = [Path(request["image"]), *chosen[:-1]]
        strip = np.concatenate([_resized(path, VIEW_PX) for path in chosen], axis=1)
        tiles.append(np.concatenate([strip, rendered]))  # rows of Blender's images go upwards
    if tiles:
        _write(args.sheet, tiles)


def _prepare(side: int) -> None:
    """Ground, light and a camera around the splats of the scene."""
    scene = bpy.context.scene
    for item in scene.objects:
        item.hide_render |= item.type == "MESH" and len(item.data.polygons) > 0  # what a camera saw
    bodies = [item for item in scene.objects if item.type == "MESH" and not item.hide_render]
    points = np.concatenate([_points(body) for body in bodies])
    low, high = np.percentile(points, [LOWEST, 100 - LOWEST], axis=0)
    middle, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    for body in bodies:
        for ray in ("shadow", "diffuse", "glossy", "transmission"):  # thousands of transparent layers each
            setattr(body, f"visible_{ray}", False)
    _shadow_of(points[((points >= low) & (points <= high)).all(1)], THICK * radius)

    bpy.ops.mesh.primitive_plane_add(size=200 * radius, location=(*middle[:2], low[2]))
    ground = bpy.data.materials.new("Ground")
    ground.use_nodes = True
    shader = next(node for node in ground.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Base Color"].default_value = (0.86, 0.86, 0.88, 1)
    shader.inputs["Roughness"].default_value = 1
    bpy.context.object.data.materials.append(ground)
    bpy.ops.object.light_add(type="SUN", rotation=(0.6, 0.35, 0))
    bpy.context.object.data.energy, bpy.context.object.data.angle = 2.2, 0.6
    world = bpy.data.worlds.new("Sky")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs[0].default_value = (0.55, 0.56, 0.6, 1)
    scene.world = world

    camera = bpy.data.objects.new("Gallery", bpy.data.cameras.new("Gallery"))
    camera.data.angle = math.radians(30)
    scene.collection.objects.link(camera)
    away, up = math.radians(AZIMUTH_DEG), math.radians(ELEVATION_DEG)
    towards = Vector((math.cos(away) * math.cos(up), math.sin(away) * math.cos(up), math.sin(up)))
    camera.location = Vector(middle) + towards * (ROOM * radius / math.sin(camera.data.angle / 2))
    camera.rotation_euler = towards.to_track_quat("Z", "Y").to_euler()
    scene.camera = camera

    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = SAMPLES, True
    scene.render.film_transparent = False
    scene.render.resolution_x = scene.render.resolution_y = side
    scene.render.resolution_percentage = 100


def _render(path: Path) -> Path:
    bpy.context.scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    return path


def _loop(folder: Path, path: Path) -> None:
    """Renders the scene's frames, every second one, into an animated GIF."""
    scene = bpy.context.scene
    frames = []
    for frame in range(scene.frame_start, scene.frame_end + 1, LOOP_STEP):
        scene.frame_set(frame)
        frames.append(Image.open(_render(folder / f"{frame:04d}.png")).convert("RGB"))
    duration_ms = 1000 * LOOP_STEP / scene.render.fps
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=duration_ms, loop=0)


def _shadow_of(points: np.ndarray, thick: float) -> None:
    """Balls at points [N, 3] that nothing but light sees."""
    mesh = bpy.data.meshes.new("Shadow")
    mesh.from_pydata(points, [], [])
    shadow = bpy.data.objects.new("Shadow", mesh)
    shadow.instance_type = "VERTS"
    bpy.context.scene.collection.objects.link(shadow)
    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=1, radius=thick)
    ball = bpy.context.object
    ball.parent = shadow
    for seen in ("camera", "diffuse", "glossy", "transmission"):
        setattr(ball, f"visible_{seen}", False)


def _points(body: bpy.types.Object) -> np.ndarray:  # [N, 3] in the world
    points = np.empty((len(body.data.vertices), 3), np.float32)
    body.data.vertices.foreach_get("co", points.ravel())
    matrix = np.array(body.matrix_world)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _resized(path: Path, side: int) -> np.ndarray:  # [H, W, 4] sRGB, over white
    image = bpy.data.images.load(str(path))
    image.scale(side, side)
    pixels = np.array(image.pixels, np.float32).reshape(side, side, 4)
    bpy.data.images.remove(image)
    return np.concatenate(
        [pixels[..., :3] * pixels[..., 3:] + 1 - pixels[..., 3:], np.ones_like(pixels[..., 3:])], -1
    )


def _write(path: Path, tiles: list[np.ndarray]) -> None:
    empty = np.ones_like(tiles[0])
    rows = [tiles[i : i + COLUMNS] for i in range(0, len(tiles), COLUMNS)]
    rows = [np.concatenate(row + [empty] * (min(COLUMNS, len(tiles)) - len(row)), axis=1) for row in rows]
    pixels = np.concatenate(rows[::-1])  # upwards
    sheet = bpy.data.images.new("Gallery", pixels.shape[1], pixels.shape[0])
    sheet.pixels.foreach_set(pixels.ravel())
    settings = bpy.context.scene.render.image_settings
    settings.file_format, settings.quality = "JPEG" if path.suffix == ".jpg" else "PNG", 88
    sheet.file_format = settings.file_format
    sheet.save(filepath=str(path.resolve()), quality=88)


if __name__ == "__main__":
    main()
