"""Generated views to Gaussians, and Gaussians to clouds and to mattes for the views."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.lgm import Gaussians
from ..shared.ply import SH_C0, GaussianCloud
from .model import ViewsModel
from .three_d_aware import in_world, reconstruct, render

FAINTEST = 0.005  # splats of less opacity are left out, as the reconstructor's authors do
GREY_DISTANCE = 0.12  # a pixel of a view that differs so much from the background is all object


def views_to_gaussians(model: ViewsModel, images: Tensor, cameras: Tensor) -> Gaussians:
    """The reconstructor's Gaussians of views [B, V, 3, H, W], in the world of their cameras [V, 4, 4]."""
    seen = input_views(model, len(cameras))
    images = images.to(model.device)
    cameras = cameras.to(images)
    local = reconstruct(images[:, list(seen)], cameras, seen, model.reconstructor, model.settings.fov_deg)
    return in_world(local, cameras)


def to_cloud(gaussians: Gaussians) -> GaussianCloud:
    """One object's Gaussians as a cloud for files and fitting, without the nearly transparent ones."""
    kept = gaussians.opacities[0] > FAINTEST
    means, opacities, scales, quats, rgb = (field[0][kept].cpu().numpy() for field in gaussians)
    return GaussianCloud(means, quats, scales, opacities, sh=((rgb - 0.5) / SH_C0)[:, None])


def matte(
    model: ViewsModel,
    images: Tensor,  # [V, 3, H, W] sRGB
    gaussians: Gaussians,
    cameras: Tensor,  # [V, 4, 4]
) -> Tensor:  # [V, 4, H, W], straight alpha
    """The views with the grey that they were generated on matted out.

    Alpha is 1 where the splats cover a pixel; near their edge, which is softer than the views', it follows
    the difference from the grey.
    """
    grey = model.settings.rendering.background
    _, covered = render(gaussians, cameras.to(images), model.settings.rendering)
    covered = torch.nn.functional.interpolate(covered[0].to(images), images.shape[-2:], mode="area")
    differs = (images - grey).abs().amax(1, keepdim=True) / GREY_DISTANCE
    inside = (covered - 0.8) / 0.15
    alpha = torch.maximum(differs.clamp(0, 1) * (covered > 0.1), inside.clamp(0, 1))
    color = grey + (images - grey) / alpha.clamp_min(1 / 255)
    return torch.cat([color.clamp(0, 1), alpha], dim=1)


def input_views(model: ViewsModel, num_views: int) -> tuple[int, ...]:
    """Indices of the views that are reconstructed from: evenly spaced, from the first."""
    count = min(model.settings.input_views, num_views)
    return tuple(i * num_views // count for i in range(count))
