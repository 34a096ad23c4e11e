"""A video of objects as they are in the file, while the camera goes around them once."""

from __future__ import annotations

import argparse
import math

import bpy
from mathutils import Matrix

from . import around, subjects, viewpoints

ELEVATION_DEG = 12.0
_LOOKS = 8  # frames of a motion in which it is looked how far the objects reach


def record(args: argparse.Namespace) -> None:
    """Renders the video `args.turntable`.

    Engine, world, lights, colours and compositor are the file's own. What moves is played from the scene's
    first frame.

    Raises:
        ValueError: there is nothing to be seen.
        RuntimeError: Blender cannot render, or cannot make videos.
    """
    if not bpy.app.build_options.codec_ffmpeg:
        raise RuntimeError("this Blender was built without FFmpeg, which makes videos")
    scene = bpy.context.scene
    count = max(round(args.seconds * scene.render.fps / scene.render.fps_base), 2)
    looks = [scene.frame_start + count * i // _LOOKS for i in range(_LOOKS)]
    ball = around.ball_of(around.subject_of(args.objects), looks)
    bpy.ops.wm.open_mainfile(filepath=bpy.data.filepath)  # looking has changed settings
    around.choose(args.scene, args.layer)
    subjects.show_only(around.subject_of(args.objects))
    scene = bpy.context.scene
    scene.frame_end = scene.frame_start + count - 1
    _turn_camera(scene, ball, count)
    _set_output(scene, args)
    done = []

    def on_frame(*_: object) -> None:
        done.append(scene.frame_current)
        around.tell(len(done), count)

    bpy.app.handlers.render_write.append(on_frame)
    try:
        bpy.ops.render.render(animation=True)
    finally:
        bpy.app.handlers.render_write.remove(on_frame)


def _turn_camera(scene: bpy.types.Scene, ball: viewpoints.Frame, count: int) -> None:
    """Adds a camera that goes around the ball, from its front, and makes it the scene's."""
    data = bpy.data.cameras.new("turntable")
    data.sensor_fit, data.angle = "HORIZONTAL", math.radians(viewpoints.FOV_DEG)
    data.clip_start, data.clip_end = 0.01 * ball.metres_per_unit, 100 * ball.metres_per_unit
    camera = bpy.data.objects.new("turntable", data)
    scene.collection.objects.link(camera)
    scene.timeline_markers.clear()  # cameras bound to them would come back
    scene.camera = camera
    for i in range(count):
        azimuth = math.tau * i / count - math.pi / 2
        pose = viewpoints.looking_at_origin(azimuth, math.radians(ELEVATION_DEG), around.distance(1.0))
        camera.matrix_world = Matrix(ball.to_scene(pose).tolist())
        for path in ("location", "rotation_euler"):
            camera.keyframe_insert(path, frame=scene.frame_start + i)


def _set_output(scene: bpy.types.Scene, args: argparse.Namespace) -> None:
    render, image = scene.render, scene.render.image_settings
    render.resolution_x = render.resolution_y = args.size // 2 * 2  # H.264 knows no odd sizes
    render.resolution_percentage, render.pixel_aspect_x, render.pixel_aspect_y = 100, 1, 1
    for option in ("use_border", "use_sequencer", "use_motion_blur", "use_multiview", "use_placeholder"):
        setattr(render, option, False)
    render.use_overwrite = render.use_file_extension = True
    scene.frame_step = 1
    if args.samples and render.engine == "CYCLES":
        scene.cycles.samples, scene.cycles.use_denoising = args.samples, args.samples >= around.DENOISED
    elif args.samples and hasattr(scene, "eevee"):
        scene.eevee.taa_render_samples = args.samples
    if hasattr(image, "media_type"):  # since Blender 5.0
        image.media_type = "VIDEO"
    image.file_format, image.color_mode = "FFMPEG", "RGB"
    video = render.ffmpeg
    video.format, video.codec, video.audio_codec = "MPEG4", "H264", "NONE"
    video.constant_rate_factor = "HIGH"
    render.filepath = str(args.turntable.resolve())
