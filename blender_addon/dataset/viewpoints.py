"""Where training cameras stand around an object, and how they are written down.

Cameras live in the object's unit: its bounding box is centred on the origin and its longest side is 1, as in
G-Objaverse. Its front is +X, as the models have it: what faces Blender's front view (-Y) faces view 0.
The user's scene is never moved or scaled; the cameras are taken to it instead (`Frame`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FOV_DEG = 39.6  # G-Objaverse's, horizontal
RADII, HEIGHTS = (2.2, 2.6), (0.8, 1.2)  # Vivid-ZOO's cameras, in units
JITTER = 0.25  # of the angle between two views
_LARGEST_RADIUS = 0.65  # of the bounding sphere: what VideoMV's orbit sees whole from everywhere


# From the object's unit to the scene's axes: -90 degrees about Z, as results are turned at import.
TURN = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Frame:
    """The object's own coordinates: `scene = center + metres_per_unit * TURN @ unit`."""

    center: np.ndarray  # [3] metres
    metres_per_unit: float

    def to_scene(self, camera: np.ndarray) -> np.ndarray:  # [4, 4] -> [4, 4]
        """A camera of the unit world where it stands in the user's scene."""
        moved = np.eye(4)
        moved[:3, :3] = TURN @ camera[:3, :3]
        moved[:3, 3] = self.center + self.metres_per_unit * TURN @ camera[:3, 3]
        return moved

    def to_unit(self, points: np.ndarray) -> np.ndarray:  # [N, 3] -> [N, 3]
        """Points of the user's scene in the object's unit."""
        return (points - self.center) @ TURN / self.metres_per_unit


def frame_of(points: np.ndarray) -> Frame:  # [N, 3] metres
    """The frame in which the points' bounding box is centred and as large as the cameras see whole.

    Raises:
        ValueError: the points have no extent.
    """
    low, high = points.min(0), points.max(0)
    longest, diagonal = float((high - low).max()), float(np.linalg.norm(high - low))
    if not np.isfinite(diagonal) or longest <= 0:
        raise ValueError("it has no size: nothing of it is visible in the viewport, or it is a single point")
    return Frame((low + high) / 2, max(longest, diagonal / 2 / _LARGEST_RADIUS))


def looking_at_origin(azimuth: float, elevation: float, distance: float) -> np.ndarray:  # [4, 4]
    """A Blender camera (looks down -Z, +Y up) on a sphere; angles in radians, azimuth 0 is +X."""
    cos_a, sin_a = math.cos(azimuth), math.sin(azimuth)
    back = np.array([math.cos(elevation) * cos_a, math.cos(elevation) * sin_a, math.sin(elevation)])
    right = np.array([-sin_a, cos_a, 0.0])
    camera = np.eye(4)
    camera[:3] = np.stack([right, np.cross(back, right), back, distance * back], axis=1)
    return camera


def orbit(count: int, elevation_deg: float, distance: float) -> np.ndarray:  # [V, 4, 4]
    """VideoMV's orbit: view 0 on +X, the next ones counter-clockwise seen from above."""
    return np.stack(
        [
            looking_at_origin(math.tau * view / count, math.radians(elevation_deg), distance)
            for view in range(count)
        ]
    )


def jittered_orbit(count: int, rng: np.random.Generator) -> np.ndarray:  # [V, 4, 4]
    """Vivid-ZOO's cameras: evenly spread azimuths, each a little off; one radius and one height a clip.

    All views of a clip share the height, because the views of one sample do when the model is used.
    """
    distance, height = rng.uniform(*RADII), rng.uniform(*HEIGHTS)
    offsets = rng.uniform(-JITTER, JITTER, count)
    azimuths = math.tau * (np.arange(count) + offsets) / count
    return np.stack(
        [looking_at_origin(azimuth, math.asin(height / distance), distance) for azimuth in azimuths]
    )


def camera_json(camera: np.ndarray) -> dict[str, object]:  # [4, 4]
    """A square image's camera as G-Objaverse writes it: axes of OpenCV (y down, z forward), world Z up."""
    fov = math.radians(FOV_DEG)
    return {
        "x": camera[:3, 0].tolist(),
        "y": (-camera[:3, 1]).tolist(),
        "z": (-camera[:3, 2]).tolist(),
        "origin": camera[:3, 3].tolist(),
        "x_fov": fov,
        "y_fov": fov,
    }


def outside(points: np.ndarray, camera: np.ndarray) -> float:  # [N, 3], [4, 4]
    """The share of the points that a camera does not see because they are beyond its frame or behind it."""
    seen = (points - camera[:3, 3]) @ camera[:3, :3]
    depth = -seen[:, 2]
    reach = np.abs(seen[:, :2]).max(1)
    return float(np.mean((depth <= 0) | (reach > depth * math.tan(math.radians(FOV_DEG) / 2))))
