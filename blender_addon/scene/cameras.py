"""The cameras that saw the generated views: one for each view, and one that travels through all of them."""

from __future__ import annotations

import math

import bpy
import numpy as np
from mathutils import Matrix

FRAMES_PER_VIEW = 10  # what the travelling camera takes from one view to the next


def turn_to_front(front: str) -> Matrix:
    """The turn about Z after which an object made with that front faces Blender's front view, -Y."""
    return Matrix.Rotation(math.radians(-90), 4, "Z") if front == "+X" else Matrix()


def camera_object(name: str, fov_y: float) -> bpy.types.Object:
    """A camera with a vertical field of view; it is in no collection yet.

    Vertical, because views are square and renders are wide: what was in the view stays in the render.
    """
    camera = bpy.data.cameras.new(name)
    camera.sensor_fit = "VERTICAL"
    camera.angle = fov_y
    camera.clip_start = 0.01
    camera.display_size = 0.2
    return bpy.data.objects.new(name, camera)


def view_camera(name: str, parent_from_camera: Matrix, fov_y: float) -> bpy.types.Object:
    """The camera of one view."""
    view = camera_object(name, fov_y)
    view.matrix_basis = parent_from_camera
    return view


def orbit_camera(
    name: str, parent_from_cameras: list[Matrix], fov_y: float, frame_start: int
) -> bpy.types.Object:
    """A camera keyed at every view, with the view's exact pose and lens, `FRAMES_PER_VIEW` apart."""
    orbit = camera_object(name, fov_y)
    orbit.rotation_mode = "QUATERNION"
    previous = None
    for view, matrix in enumerate(parent_from_cameras):
        location, rotation, _ = matrix.decompose()
        if previous is not None:
            rotation.make_compatible(previous)  # the short way round
        previous = rotation
        orbit.location, orbit.rotation_quaternion = location, rotation
        frame = orbit_frame(frame_start, view)
        orbit.keyframe_insert("location", frame=frame)
        orbit.keyframe_insert("rotation_quaternion", frame=frame)
        orbit.data.keyframe_insert("lens", frame=frame)
    return orbit


def orbit_frame(frame_start: int, view: int) -> int:
    """The frame in which the travelling camera stands where a view was seen from."""
    return frame_start + view * FRAMES_PER_VIEW


def vertical_fov(fov_deg: float, width: int, height: int) -> float:
    """The vertical field of view of an image with that horizontal one, in radians."""
    return 2 * math.atan(math.tan(math.radians(fov_deg) / 2) * height / width)


def matrices(cameras: np.ndarray, front: str) -> list[Matrix]:
    """Camera-to-world matrices [V, 4, 4] of an asset, turned to Blender's front."""
    turn = turn_to_front(front)
    return [turn @ Matrix(camera.tolist()) for camera in cameras]
