"""What the two stages of splat rendering hand to each other."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

TILE = 16  # pixels along one side of a tile; every backend bins splats into these
ALPHA_MIN = 1.0 / 255.0  # a fainter touch than this cannot be seen and is skipped
TRANSMITTANCE_MIN = 1e-4  # a pixel stops before less light than this would come through
BLUR_SIGMAS = 3.33  # no splat reaches farther than this many standard deviations


@dataclass(frozen=True)
class Camera:
    """How images are taken: everything of the projection but the pose and the intrinsics."""

    width: int
    height: int
    near: float = 0.01
    far: float = 1e10
    radius_clip: float = 0.0
    eps2d: float = 0.3
    perspective: bool = True  # else orthographic: focal lengths are pixels per unit of the world

    @property
    def tiles_x(self) -> int:
        return -(-self.width // TILE)

    @property
    def tiles_y(self) -> int:
        return -(-self.height // TILE)


@dataclass(frozen=True)
class Projected:
    """Splats as ellipses in I = B * C images; entries with radius 0 are not seen and hold zeros."""

    means2d: Tensor  # [I, N, 2] pixels
    conics: Tensor  # [I, N, 3] upper triangle (xx, xy, yy) of the inverse 2D covariance
    depths: Tensor  # [I, N] camera z
    compensations: Tensor  # [I, N] what the blur took from the splat's weight, 0..1
    radii: Tensor  # [I, N, 2] int32 pixels
