"""Fits a cloud of Gaussians to pictures taken by known cameras."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kernels import rasterization
from kernels.spherical_harmonics import view_dependent_colors

from ..cameras import intrinsics, opencv_from_world, project
from ..shared.ply import GaussianCloud
from .color import linear_to_srgb, srgb_to_linear

Compositing = Literal["linear", "display"]

# Step sizes of Adam, falling to a tenth over the run. Means move in units of the splats' typical size.
_RATES = {"means": 0.3, "quats": 0.03, "log_scales": 0.05, "logits": 0.1, "sh": 0.05, "sh_rest": 0.0025}


def render(
    cloud: dict[str, Tensor],
    cameras: Tensor,  # [V, 4, 4] camera-to-world
    fov_deg: float,
    height: int,
    width: int,
    background: Tensor,  # [V, 3] sRGB
    compositing: Compositing,
) -> Tensor:  # [V, H, W, 3] sRGB
    """Pictures of a cloud, composited in linear light or in display values."""
    viewmats = opencv_from_world(cameras)
    degree = math.isqrt(1 + cloud["sh_rest"].shape[1]) - 1
    directions = cloud["means"] - cameras[:, None, :3, 3]
    colors = view_dependent_colors(degree, directions, torch.cat([cloud["sh"], cloud["sh_rest"]], 1))
    if compositing == "linear":
        colors, background = srgb_to_linear(colors), srgb_to_linear(background)
    image, _, _ = rasterization(
        cloud["means"], cloud["quats"], cloud["log_scales"].exp(), cloud["logits"].sigmoid(), colors,
        viewmats, intrinsics(fov_deg, width, height).to(viewmats).expand(len(viewmats), 3, 3), width, height,
        backgrounds=background,
    )  # fmt: skip
    return linear_to_srgb(image) if compositing == "linear" else image


def fit(
    cloud: GaussianCloud,
    images: Tensor,  # [V, 4, H, W] sRGB, straight alpha, 0..1
    cameras: Tensor,  # [V, 4, 4] camera-to-world, Blender's axes
    fov_deg: float,
    steps: int = 240,
    compositing: Compositing = "linear",
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> GaussianCloud:
    """Moves, turns, stretches and recolours the Gaussians until their pictures are the given ones.

    Every step draws one view, before a background of another colour each time, so that what is behind the
    object cannot be faked.

    Args:
        cloud: where to begin; its number of Gaussians and its degree of spherical harmonics stay.
        fov_deg: horizontal field of view.
        compositing: "linear" or "display", the space in which the cloud will be shown.
        on_step: called with the number of steps done and the mean absolute error of the last one; may raise.

    Source: Kerbl et al., 3D Gaussian Splatting (2023), without densification.
    """
    leaves = leaves_of(cloud)
    optimizer, decay = optimizer_of(leaves, float(np.median(cloud.scales)), steps)
    generator = torch.Generator().manual_seed(seed)
    pictures = images.float().movedim(1, -1)  # [V, H, W, 4]
    height, width = pictures.shape[1:3]
    order: list[int] = []
    for step in range(steps):
        if not order:
            order = torch.randperm(len(pictures), generator=generator).tolist()
        view = order.pop()
        behind = torch.rand(1, 3, generator=generator)
        camera = cameras[view : view + 1].float()
        image = render(leaves, camera, fov_deg, height, width, behind, compositing)[0]
        error = (image - over(pictures[view], behind, compositing)).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        decay.step()
        if on_step:
            on_step(step + 1, error.item())
    return cloud_of(leaves)


def optimizer_of(
    leaves: dict[str, Tensor],
    size: float,  # of a typical splat, in metres
    steps: int,
    pace: float = 1.0,  # how much larger the step sizes are
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.ExponentialLR]:
    """Adam for a cloud, and the decay of its step sizes, to be stepped with it."""
    rates = {name: pace * rate for name, rate in (_RATES | {"means": _RATES["means"] * size}).items()}
    optimizer = torch.optim.Adam(
        [{"params": [leaf], "lr": rates[name]} for name, leaf in leaves.items()], betas=(0.9, 0.99), eps=1e-15
    )
    return optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1 ** (1 / max(steps, 1)))


@torch.no_grad()
def cut_out(
    leaves: dict[str, Tensor],
    cameras: Tensor,  # [V, 4, 4] camera-to-world
    fov_deg: float,
    height: int,
    width: int,
    compositing: Compositing,
) -> Tensor:  # [V, 4, H, W] sRGB, straight alpha
    """Pictures of a cloud before nothing: what black and white behind it have in common."""
    black, white = (
        render(
            leaves, cameras, fov_deg, height, width, cameras.new_full((len(cameras), 3), grey), compositing
        )
        for grey in (0.0, 1.0)
    )
    if compositing == "linear":
        black, white = srgb_to_linear(black), srgb_to_linear(white)
    alpha = 1 - (white - black).mean(-1, keepdim=True).clamp(0, 1)
    color = black / alpha.clamp_min(1 / 255)
    if compositing == "linear":
        color = linear_to_srgb(color)
    return torch.cat([color.clamp(0, 1), alpha], -1).movedim(-1, 1)


def over(picture: Tensor, background: Tensor, compositing: Compositing) -> Tensor:
    """A picture with straight alpha before a background, mixed in the given space."""
    color, alpha = picture[..., :3], picture[..., 3:]
    if compositing == "display":
        return color * alpha + background * (1 - alpha)
    return linear_to_srgb(srgb_to_linear(color) * alpha + srgb_to_linear(background) * (1 - alpha))


def leaves_of(cloud: GaussianCloud, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The cloud as values without bounds, which Adam may move freely."""
    opacities = torch.from_numpy(cloud.opacities).float().clamp(1e-4, 1 - 1e-4)
    leaves = {
        "means": torch.from_numpy(cloud.means),
        "quats": torch.from_numpy(cloud.quats),
        "log_scales": torch.from_numpy(cloud.scales).clamp_min(1e-9).log(),
        "logits": opacities.logit(),
        "sh": torch.from_numpy(cloud.sh[:, :1]),
        "sh_rest": torch.from_numpy(cloud.sh[:, 1:]),
    }
    return {
        name: leaf.detach().float().to(device, copy=True).requires_grad_() for name, leaf in leaves.items()
    }


def cloud_of(leaves: dict[str, Tensor]) -> GaussianCloud:
    leaves = {name: leaf.detach().cpu() for name, leaf in leaves.items()}
    with torch.no_grad():
        return GaussianCloud(
            means=leaves["means"].numpy().copy(),
            quats=torch.nn.functional.normalize(leaves["quats"], dim=-1).numpy(),
            scales=leaves["log_scales"].exp().numpy(),
            opacities=leaves["logits"].sigmoid().numpy(),
            sh=torch.cat([leaves["sh"], leaves["sh_rest"]], 1).numpy(),
        )


def cloud_in_ball(count: int, radius: float, generator: torch.Generator) -> GaussianCloud:
    """A first guess that says nothing: faint grey Gaussians everywhere in a ball around the origin."""
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    means = radius * torch.rand(count, 1, generator=generator) ** (1 / 3) * direction
    spacing = radius * (4 * math.pi / 3 / count) ** (1 / 3)
    return GaussianCloud(
        means=means.numpy(),
        quats=np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        scales=np.full((count, 3), 0.7 * spacing, np.float32),
        opacities=np.full(count, 0.02, np.float32),
        sh=np.zeros((count, 1, 3), np.float32),
    )


def cloud_in_silhouettes(
    images: Tensor,  # [V, 4, H, W] sRGB, straight alpha
    cameras: Tensor,  # [V, 4, 4] camera-to-world
    fov_deg: float,
    count: int,
    seed: int = 0,
) -> GaussianCloud:
    """A first guess: grey Gaussians on the skin of the volume that all the silhouettes leave.

    Raises:
        ValueError: the silhouettes have nothing in common.
    """
    height, width = images.shape[-2:]
    reach = float(cameras[:, :3, 3].norm(dim=-1).mean()) * math.tan(math.radians(fov_deg) / 2)
    resolution = 64
    axis = (torch.arange(resolution) + 0.5) / resolution * 2 - 1
    grid = torch.cartesian_prod(axis, axis, axis) * reach
    inside = torch.ones(len(grid), dtype=torch.bool)
    for camera, image in zip(cameras.float(), images, strict=True):
        where, ahead = project(grid, camera, fov_deg, width, height)
        alpha = torch.nn.functional.grid_sample(image[None, 3:], where[None, None], align_corners=False)
        inside &= (alpha.flatten() > 0.5) & (ahead > 0)
    solid = inside.reshape(1, 1, *(resolution,) * 3).float()
    skin = inside & (torch.nn.functional.avg_pool3d(solid, 3, 1, 1, count_include_pad=True).flatten() < 1)
    voxels = grid[skin]
    if not len(voxels):
        raise ValueError("the silhouettes of the views have nothing in common: are these their cameras?")
    generator = torch.Generator().manual_seed(seed)
    step = 2 * reach / resolution
    chosen = voxels[torch.randint(len(voxels), (count,), generator=generator)]
    means = chosen + step * (torch.rand(count, 3, generator=generator) - 0.5)
    size = step * math.sqrt(len(voxels) / count)  # so that together they cover the skin
    return GaussianCloud(
        means=means.numpy(),
        quats=np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        scales=np.full((count, 3), 0.5 * size, np.float32),
        opacities=np.full(count, 0.5, np.float32),
        sh=np.zeros((count, 1, 3), np.float32),
    )
