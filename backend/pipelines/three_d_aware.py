"""3D-aware denoising: half-denoised views are reconstructed, and continue as renders of one object.

The 3D-aware denoising step of VideoMV (arXiv 2403.12010, section 3.3), one implementation for every pipeline.
A pipeline passes its network's estimate of the clean latents (x0), one sample per row of the guidance batch;
guidance is applied by the caller, to the latents that come back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import drawing_device

from ..cameras import plucker_rays, reconstruction_cameras, world_from_reconstruction
from ..gaussians.color import encode
from ..gaussians.rendering import composite
from ..models.lgm import LGM, Gaussians
from ..shared.sequence_file import Blending

# The reconstructor sees images normalised like ImageNet's.
_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

_NEAR = 0.2  # metres; what is closer to the camera was culled when the reconstructor was trained


@dataclass(frozen=True)
class SplatRendering:
    """How the reconstructor's Gaussians were rendered in its training, and so how they look right."""

    fov_deg: float
    size_px: int
    background: float  # grey, sRGB 0..1
    blending: Blending  # the space in which colours are composited


class Refined(NamedTuple):
    """The result of a 3D-aware step: latents to go on from, and the object they show."""

    latents: Tensor  # [B, 4, F, h, w]
    gaussians: Gaussians  # in the reconstructor's frame; see `in_world`
    renders: Tensor  # [B, F, 3, H, W] sRGB 0..1


def three_d_aware_step(
    x0: Tensor,  # [B, 4, F, h, w]
    world_from_camera: Tensor,  # [F, 4, 4] or [B, F, 4, 4]
    *,
    decode: Callable[[Tensor], Tensor],  # latents [N, 4, h, w] -> sRGB images [N, 3, H, W]
    encode: Callable[[Tensor], Tensor],  # the other way
    reconstructor: LGM,
    input_views: Sequence[int],
    rendering: SplatRendering,
) -> Refined:
    """Replaces estimated clean latents by those of one 3D object per sample.

    Args:
        x0: estimate of the clean latents, without guidance.
        world_from_camera: of all F views.
        decode: its images are clamped to 0..1 here.
        encode: receives images in 0..1 of the size that `decode` returns.
        reconstructor: sees `input_views` only.
        input_views: indices of the views to reconstruct from, spread around the object.
        rendering: all F views are rendered this way.
    """
    batch, _, num_views = x0.shape[:3]
    seen = x0[:, :, list(input_views)].transpose(1, 2)  # [B, V, 4, h, w]
    images = decode(seen.flatten(0, 1)).clamp(0, 1).unflatten(0, (batch, -1))
    gaussians = reconstruct(images, world_from_camera, input_views, reconstructor, rendering.fov_deg)
    renders, _ = render(gaussians, reconstruction_cameras(world_from_camera), rendering)
    # Plain nearest neighbour, as the published renders were resized: it takes every other pixel of 512.
    small = F.interpolate(renders.flatten(0, 1), size=images.shape[-2:], mode="nearest")
    latents = encode(small.to(x0)).unflatten(0, (batch, num_views))
    return Refined(latents.transpose(1, 2), gaussians, small.unflatten(0, (batch, num_views)))


def reconstruct(
    images: Tensor,  # [B, V, 3, H, W] sRGB 0..1
    world_from_camera: Tensor,  # [F, 4, 4] or [B, F, 4, 4]
    input_views: Sequence[int],  # V of the F views
    reconstructor: LGM,
    fov_deg: float,
) -> Gaussians:  # where splats are drawn: see `kernels.drawing_device`
    """Gaussians, in the reconstructor's frame, of the object that the images show.

    Args:
        images: what the cameras `input_views` saw.
        world_from_camera: of all views; the first of them defines the reconstructor's frame.
        fov_deg: of all cameras.
    """
    cameras = reconstruction_cameras(world_from_camera)[..., list(input_views), :, :]
    features = reconstruction_features(reconstructor, images, cameras, fov_deg)
    return reconstructor.gaussians(features.to(drawing_device(features.device)).float())


def reconstruction_features(
    reconstructor: LGM,
    images: Tensor,  # [B, V, 3, H, W] sRGB 0..1
    cameras: Tensor,  # [V, 4, 4] or [B, V, 4, 4], in the reconstructor's frame
    fov_deg: float,
) -> Tensor:  # [B, V, 14, h, w]
    """The reconstructor's output for images and their cameras, before activation."""
    rays = plucker_rays(cameras, fov_deg, *images.shape[-2:]).to(images)
    normalised = (images - _MEAN.to(images)) / _STD.to(images)
    inputs = torch.cat([normalised, rays.expand(*images.shape[:2], -1, -1, -1)], dim=2)
    return reconstructor(inputs.to(reconstructor.dtype))


def render(
    gaussians: Gaussians,
    world_from_camera: Tensor,  # [V, 4, 4] or [B, V, 4, 4], in the frame of the Gaussians
    rendering: SplatRendering,
) -> tuple[Tensor, Tensor]:
    """Images of the Gaussians, [B, V, 3, H, W] sRGB 0..1, and their alpha, [B, V, 1, H, W]."""
    batch = gaussians.means.shape[0]
    size = rendering.size_px
    num_views = world_from_camera.shape[-3]
    images, alphas = composite(
        gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.rgb,
        world_from_camera, rendering.fov_deg, size, size, rendering.blending,
        background=gaussians.rgb.new_full((batch, num_views, 3), rendering.background), near_plane=_NEAR,
    )  # fmt: skip
    images = encode(images.movedim(-1, -3).clamp(0, 1), rendering.blending)
    return images, alphas.movedim(-1, -3)


def in_world(gaussians: Gaussians, world_from_camera: Tensor) -> Gaussians:  # [F, 4, 4]
    """The same Gaussians in the world of the cameras they were reconstructed from."""
    world_from_local = world_from_reconstruction(world_from_camera).to(gaussians.means)
    turn, shift = world_from_local[:3, :3], world_from_local[:3, 3]
    return gaussians._replace(
        means=gaussians.means @ turn.mT + shift,
        quats=_turned(gaussians.quats, turn),
    )


def _turned(quats: Tensor, turn: Tensor) -> Tensor:  # [..., 4], [3, 3] -> [..., 4]
    """Rotations `quats` (w x y z) followed by the rotation matrix `turn`."""
    # The quaternion of `turn` is the eigenvector of eigenvalue 1 of K/3 (Bar-Itzhack 2000, version 3): no
    # branches, and exact for any rotation.
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = turn.double().tolist()
    k = torch.tensor(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ],
        dtype=torch.float64,
    )
    w, x, y, z = torch.linalg.eigh(k).eigenvectors[:, -1].tolist()
    left = torch.tensor([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    return quats @ left.to(quats).mT
