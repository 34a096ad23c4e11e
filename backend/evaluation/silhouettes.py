"""Whether the outlines of all views can be those of one solid object."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cameras import plucker_rays, project
from .images import at_most

SIZE_PX = 96  # silhouettes are reduced to this
_SAMPLES = 96  # points on a ray within the ball that all cameras see


def silhouette_consistency(masks: Tensor, cameras: Tensor, fov_deg: float) -> float | None:
    """Which part of all outlines would be left if the views had to be of one solid object.

    The largest object that no view contradicts fills all points that are inside of every silhouette. A pixel
    of an outline is explained if that object shows there, that is if some point on its ray is inside of all
    other silhouettes. 1 for views of one object, but for what whole pixels cannot tell; less where a view
    shows what the others have no room for. Needs no network and no reconstruction, and says nothing of
    colours. Blurred edges cost something, too: compare views of the same model only.

    Of four sides of the small world's objects it is 0.998 on average (at least 0.992) for one object, and
    0.81 if the sides are of four objects with the same name, colour and motion; once the autoencoder has
    blurred them, 0.97 and 0.83, which still tells all of them apart.

    Args:
        masks: [V, H, W] bool or 0..1, where the object is.
        cameras: [V, 4, 4] camera-to-world, Blender's axes, that look at the origin.

    Returns:
        The part, 0..1, averaged over views; None if there are fewer than two views, if one shows nothing, or
        if no outline is in any.

    Source: Hernández, Schmitt and Cipolla, Silhouette Coherence for Camera Calibration under Circular Motion
    (2007), where cameras are sought that make it 1; here they are known.
    """
    inside = (at_most(masks[:, None].float(), SIZE_PX) > 0.5).float()  # [V, 1, h, w]
    if len(inside) < 2 or not inside.flatten(1).any(1).all():
        return None
    outlines = inside * F.max_pool2d(1 - inside, 3, 1, 1)
    height, width = inside.shape[-2:]
    radius = float(cameras[:, :3, 3].norm(dim=-1).min()) * math.sin(math.radians(fov_deg) / 2)
    rays = plucker_rays(cameras, fov_deg, height, width)[:, 3:].movedim(1, -1)  # [V, h, w, 3]
    parts = []
    for view, camera in enumerate(cameras):
        points, counted = _on_rays(camera[:3, 3], rays[view][outlines[view, 0] > 0], radius)
        others = [other for other in range(len(cameras)) if other != view]
        where, _ = project(points, cameras[others, None], fov_deg, width, height)
        found = F.grid_sample(inside[others], where, mode="nearest", align_corners=False)  # [V - 1, 1, P, K]
        explained = (found[:, 0] > 0).all(0).any(-1)  # [P]
        parts.append(explained[counted].float().mean())
    mean = float(torch.stack(parts).nanmean())
    return None if math.isnan(mean) else mean


def _on_rays(
    origin: Tensor,  # [3]
    directions: Tensor,  # [P, 3] of length 1
    radius: float,
) -> tuple[Tensor, Tensor]:  # [P, K, 3], [P] bool
    """Points on every ray within a ball around the world's origin, and which rays meet it."""
    nearest = -(directions @ origin)  # distance along the ray
    half = radius**2 - origin.square().sum() + nearest.square()
    along = torch.linspace(-1, 1, _SAMPLES) * half.clamp_min(0).sqrt()[:, None] + nearest[:, None]
    return origin + along[..., None] * directions[:, None], half > 0
