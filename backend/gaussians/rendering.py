"""Renders Gaussians from pinhole cameras, blended in linear light or in display values."""

from __future__ import annotations

from torch import Tensor

from kernels import rasterization

from ..cameras import intrinsics, opencv_from_world
from ..shared.sequence_file import Blending
from .color import decode


def composite(
    means: Tensor,  # [..., N, 3]
    quats: Tensor,  # [..., N, 4] w x y z, any length
    scales: Tensor,  # [..., N, 3]
    opacities: Tensor,  # [..., N]
    colors: Tensor,  # [..., (V,) N, 3] sRGB
    world_from_camera: Tensor,  # [V, 4, 4] or [..., V, 4, 4]
    lens: float | Tensor,  # horizontal field of view in degrees, or intrinsics [..., V, 3, 3] in pixels
    height: int,
    width: int,
    blending: Blending,
    *,
    background: Tensor | None = None,  # [..., V, 3] sRGB; black if None
    near_plane: float = 0.01,  # metres; what is closer to the camera is culled
) -> tuple[Tensor, Tensor]:
    """Images [..., V, H, W, 3] and their alpha [..., V, H, W, 1].

    The images hold the values that were blended: `color.encode` makes sRGB of them.
    """
    viewmats = opencv_from_world(world_from_camera).to(means)
    viewmats = viewmats.expand(*means.shape[:-2], -1, -1, -1)
    Ks = lens if isinstance(lens, Tensor) else intrinsics(lens, width, height)
    images, alphas, _ = rasterization(
        means, quats, scales, opacities, decode(colors, blending), viewmats,
        Ks.to(viewmats).expand(*viewmats.shape[:-2], 3, 3), width, height,
        near_plane=near_plane, backgrounds=None if background is None else decode(background, blending),
    )  # fmt: skip
    return images, alphas
