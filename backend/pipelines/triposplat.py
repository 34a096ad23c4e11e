"""An image to splats without views in between: TripoSplat's sampling, its octree, and the image's camera."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from ..models.triposplat_flow import Context, TripoSplatFlow

# A camera that no photographer takes is none that was understood; then the usual one is taken.
_FARTHEST = 5.0  # object sizes
_FOV_DEG = (5.0, 70.0)
_HIGHEST_DEG = 60.0


@dataclass(frozen=True)
class ImageCamera:
    """The camera that took the image, as the model understands it: it looks at the origin, Z up."""

    azimuth: float  # radians, from +X counter-clockwise seen from above
    elevation_deg: float
    radius: float  # from the origin, where the object is about 1 large
    fov_deg: float

    @property
    def usual(self) -> bool:
        """Whether a photographer may have stood there."""
        low, high = _FOV_DEG
        return (
            0 < self.radius <= _FARTHEST
            and low <= self.fov_deg <= high
            and abs(self.elevation_deg) <= _HIGHEST_DEG
        )


USUAL_CAMERA = ImageCamera(0.0, elevation_deg=5.0, radius=1.7, fov_deg=39.6)


def camera_of(token: Tensor) -> ImageCamera:  # [5]
    """What a camera token says: direction (3), 1 / distance, distance * tan(fov / 2)."""
    x, y, z, nearness, spread = token.double().tolist()
    length = math.sqrt(x * x + y * y + z * z)
    if not (math.isfinite(length + nearness + spread) and length > 0 and nearness > 0):
        return ImageCamera(0.0, 0.0, math.inf, 0.0)
    return ImageCamera(
        azimuth=math.atan2(y, x),
        elevation_deg=math.degrees(math.asin(z / length)),
        radius=1 / nearness,
        fov_deg=math.degrees(2 * math.atan(spread * nearness)),
    )


def times(steps: int, shift: float) -> list[float]:
    """Of the sampling, from 1 (noise) to 0; a larger shift spends more steps near the noise."""
    even = [1 - i / steps for i in range(steps + 1)]
    return [shift * u / (1 + (shift - 1) * u) for u in even]


def denoise(
    flow: TripoSplatFlow,
    latent: Tensor,  # [B, L, C], noise
    camera: Tensor,  # [B, 1, 5], noise
    conditional: Context,
    unconditional: Context,
    steps: int,
    guidance: float,
    shift: float,
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Latents of the object, and the token of the camera that saw it.

    Euler's steps along a rectified flow, with classifier-free guidance of both.

    Args:
        on_step: called with the number of steps done and the latent and camera so far; may raise.

    Source: TripoSplat (arXiv 2605.16355), and its released inference.
    """
    for i, (t, after) in enumerate(pairwise(times(steps, shift))):
        timestep = latent.new_full((len(latent),), 1000 * t)
        velocities = [v.float() for v in flow(latent, camera, timestep, conditional)]
        if guidance > 1:
            without = flow(latent, camera, timestep, unconditional)
            velocities = [
                guidance * v - (guidance - 1) * w.float() for v, w in zip(velocities, without, strict=True)
            ]
        latent, camera = (x - v * (t - after) for x, v in zip((latent, camera), velocities, strict=True))
        if on_step:
            on_step(i + 1, latent, camera)
    return latent, camera
