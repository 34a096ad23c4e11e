"""Whether the views show one object: it is reconstructed twice, from halves of them, and must be the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..gaussians import fitting
from ..shared.ply import GaussianCloud
from ..shared.sequence_file import Blending
from .image_quality import psnr, ssim
from .images import at_most

GAUSSIANS, STEPS, SIZE_PX = 4000, 150, 128
_SOLID = 0.5  # Gaussians less opaque than this are not part of the surface


@dataclass(frozen=True)
class SelfConsistency:
    """How alike the two reconstructions are."""

    psnr_db: float  # of their images, from all cameras
    ssim: float
    chamfer: float  # distance of their surfaces, in diagonals of the object


def self_consistency(
    rgba: Tensor,  # [V, 4, H, W] sRGB, straight alpha, 0..1
    cameras: Tensor,  # [V, 4, 4] camera-to-world, Blender's axes
    fov_deg: float,
    blending: Blending,
    steps: int = STEPS,
    count: int = GAUSSIANS,
) -> SelfConsistency:
    """Fits Gaussians to every second view, and others to the rest, and compares the two.

    No reference is needed and none is used. Images are reduced to 128 pixels.

    Raises:
        ValueError: there are less than four views, or a half's silhouettes have no volume in common.

    Source: MVGBench (2025), 3D self-consistency.
    """
    if len(cameras) < 4:
        raise ValueError(f"{len(cameras)} views are too few: each half needs two")
    small = at_most(rgba, SIZE_PX)
    height, width = small.shape[-2:]
    clouds = [
        _reconstruct(small[half::2], cameras[half::2], fov_deg, blending, steps, count) for half in (0, 1)
    ]
    behind = torch.full((len(cameras), 3), 0.5)
    with torch.no_grad():
        one, other = (
            fitting.render(
                fitting.SplatParameters.of(cloud), cameras, fov_deg, height, width, behind, blending
            ).clamp(0, 1).movedim(-1, 1)
            for cloud in clouds
        )  # fmt: skip
    surfaces = [torch.from_numpy(cloud.means[cloud.opacities > _SOLID]) for cloud in clouds]
    return SelfConsistency(psnr(one, other), ssim(one, other), chamfer(*surfaces))


def chamfer(one: Tensor, other: Tensor) -> float:  # [N, 3], [M, 3]
    """Mean distance from each point to the nearest of the other set, both ways averaged, in diagonals.

    The unit is the diagonal of the box around both sets, so that large and small objects compare.
    """
    if not len(one) or not len(other):
        return float("inf")
    every = torch.cat([one, other])
    diagonal = (every.amax(0) - every.amin(0)).norm()
    distances = torch.cdist(one, other)
    return float((distances.amin(1).mean() + distances.amin(0).mean()) / 2 / diagonal)


def _reconstruct(
    rgba: Tensor, cameras: Tensor, fov_deg: float, blending: Blending, steps: int, count: int
) -> GaussianCloud:
    start = fitting.cloud_in_silhouettes(rgba, cameras, fov_deg, count)
    # Without contrast, which makes something sharp of views that disagree.
    return fitting.fit(start, rgba, cameras, fov_deg, steps, blending, contrast=0.0)
