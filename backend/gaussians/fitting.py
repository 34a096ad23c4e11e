"""Fits a cloud of Gaussians to images taken by known cameras."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kernels.reference import rotations
from kernels.spherical_harmonics import view_dependent_colors

from ..cameras import project
from ..shared.ply import GaussianCloud
from ..shared.sequence_file import Blending
from .color import encode, over
from .likeness import contrast_difference, difference
from .rendering import composite

# Step sizes of Adam, falling to a tenth over the run. Means move in units of the splats' typical size.
_RATES = {"means": 0.3, "quats": 0.03, "log_scales": 0.05, "logits": 0.1, "sh": 0.05, "sh_rest": 0.0025}
_CONTRAST = 2.0


@dataclass(frozen=True)
class SplatParameters:
    """Gaussians as unconstrained parameters, which Adam may move freely."""

    means: Tensor  # [N, 3]
    quats: Tensor  # [N, 4] w x y z, any length
    log_scales: Tensor  # [N, 3]
    logits: Tensor  # [N] of the opacities
    sh: Tensor  # [N, 1, 3] degree 0
    sh_rest: Tensor  # [N, K, 3] the other degrees

    @classmethod
    def of(cls, cloud: GaussianCloud, device: torch.device | str = "cpu") -> SplatParameters:
        """A cloud's parameters, as leaves that want gradients."""

        def leaf(values: Tensor) -> Tensor:
            return values.detach().float().to(device, copy=True).requires_grad_()

        return cls(
            means=leaf(torch.from_numpy(cloud.means)),
            quats=leaf(torch.from_numpy(cloud.quats)),
            log_scales=leaf(torch.from_numpy(cloud.scales).clamp_min(1e-9).log()),
            logits=leaf(torch.from_numpy(cloud.opacities).float().clamp(1e-4, 1 - 1e-4).logit()),
            sh=leaf(torch.from_numpy(cloud.sh[:, :1])),
            sh_rest=leaf(torch.from_numpy(cloud.sh[:, 1:])),
        )

    def to_cloud(self) -> GaussianCloud:
        """The Gaussians for files, with unit quaternions."""
        detached = self.map(lambda values: values.detach().cpu())
        with torch.no_grad():
            return GaussianCloud(
                means=detached.means.numpy().copy(),
                quats=torch.nn.functional.normalize(detached.quats, dim=-1).numpy(),
                scales=detached.log_scales.exp().numpy(),
                opacities=detached.logits.sigmoid().numpy(),
                sh=torch.cat([detached.sh, detached.sh_rest], 1).numpy(),
            )

    def map(self, function: Callable[[Tensor], Tensor]) -> SplatParameters:
        """The same function of every parameter."""
        return SplatParameters(**{name: function(values) for name, values in vars(self).items()})


def render(
    splats: SplatParameters,
    cameras: Tensor,  # [V, 4, 4] camera-to-world
    lens: float | Tensor,  # horizontal field of view in degrees, or intrinsics [V, 3, 3] in pixels
    height: int,
    width: int,
    background: Tensor,  # [V, 3] sRGB
    blending: Blending,
) -> Tensor:  # [V, H, W, 3] sRGB
    """Renders a cloud, blended in linear light or in display values."""
    return encode(_composite(splats, cameras, lens, height, width, blending, background)[0], blending)


@torch.no_grad()
def render_rgba(
    splats: SplatParameters,
    cameras: Tensor,  # [V, 4, 4] camera-to-world
    fov_deg: float,
    height: int,
    width: int,
    blending: Blending,
) -> Tensor:  # [V, 4, H, W] sRGB, straight alpha
    """The same without a background."""
    images, alpha = _composite(splats, cameras, fov_deg, height, width, blending)
    color = encode(images / alpha.clamp_min(1 / 255), blending)
    return torch.cat([color.clamp(0, 1), alpha], -1).movedim(-1, 1)


def _composite(
    splats: SplatParameters,
    cameras: Tensor,  # [V, 4, 4]
    lens: float | Tensor,
    height: int,
    width: int,
    blending: Blending,
    background: Tensor | None = None,  # [V, 3] sRGB
) -> tuple[Tensor, Tensor]:  # [V, H, W, 3] as blended, [V, H, W, 1]
    degree = math.isqrt(1 + splats.sh_rest.shape[1]) - 1
    directions = splats.means - cameras[:, None, :3, 3]
    colors = view_dependent_colors(degree, directions, torch.cat([splats.sh, splats.sh_rest], 1))
    return composite(
        splats.means, splats.quats, splats.log_scales.exp(), splats.logits.sigmoid(), colors,
        cameras, lens, height, width, blending, background=background,
    )  # fmt: skip


def fit(
    cloud: GaussianCloud,
    images: Tensor,  # [V, 4, H, W] sRGB, straight alpha, 0..1
    cameras: Tensor,  # [V, 4, 4] camera-to-world, Blender's axes
    fov_deg: float,
    steps: int = 240,
    blending: Blending = "linear",
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
    contrast: float = _CONTRAST,
) -> GaussianCloud:
    """Optimises the Gaussians until their renders are the given images.

    Every step draws one view and a random background colour, so that splats cannot imitate a background.
    Edges count as much as colours do, and contrast: where views do not quite agree, an edge has to be
    somewhere, instead of a little everywhere.

    Args:
        cloud: where to begin; its number of Gaussians and its degree of spherical harmonics stay.
        fov_deg: horizontal field of view.
        blending: "linear" or "display", the space in which the cloud will be shown.
        on_step: called with the number of steps done and the mean absolute error of the last one; may raise.
        contrast: how much it counts beside the error of colours.

    Source: Kerbl et al., 3D Gaussian Splatting (2023), without densification.
    """
    splats = SplatParameters.of(cloud)
    optimizer, decay = optimizer_of(splats, float(np.median(cloud.scales)), steps)
    generator = torch.Generator().manual_seed(seed)
    targets = images.float().movedim(1, -1)  # [V, H, W, 4]
    height, width = targets.shape[1:3]
    order: list[int] = []
    for step in range(steps):
        if not order:
            order = torch.randperm(len(targets), generator=generator).tolist()
        view = order.pop()
        behind = torch.rand(1, 3, generator=generator)
        camera = cameras[view : view + 1].float()
        image = render(splats, camera, fov_deg, height, width, behind, blending)[0]
        wanted = over(targets[view], behind, blending, -1)
        made, true = image.movedim(-1, 0), wanted.movedim(-1, 0)
        loss = difference(made, true) + contrast * contrast_difference(made, true)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        if on_step:
            on_step(step + 1, (image - wanted).abs().mean().item())
    return splats.to_cloud()


@torch.no_grad()
def halved(cloud: GaussianCloud) -> GaussianCloud:
    """Every Gaussian as two narrower ones, side by side along its longest axis."""
    quats, scales = torch.from_numpy(cloud.quats), torch.from_numpy(cloud.scales)
    longest = torch.nn.functional.one_hot(scales.argmax(-1), 3).to(scales)
    aside = (rotations(quats) @ (0.5 * scales * longest)[..., None])[..., 0].numpy()

    def twice(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, values])

    return GaussianCloud(
        means=np.concatenate([cloud.means - aside, cloud.means + aside]),
        quats=twice(cloud.quats),
        scales=twice((scales * (1 - 0.4 * longest)).numpy()),
        opacities=twice(cloud.opacities),
        sh=twice(cloud.sh),
    )


def optimizer_of(
    splats: SplatParameters,
    size: float,  # of a typical splat, in metres
    steps: int,
    pace: float = 1.0,  # how much larger the step sizes are
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.ExponentialLR]:
    """Adam for a cloud, and the decay of its step sizes, to be stepped with it."""
    rates = {name: pace * rate for name, rate in (_RATES | {"means": _RATES["means"] * size}).items()}
    optimizer = torch.optim.Adam(
        [{"params": [leaf], "lr": rates[name]} for name, leaf in vars(splats).items()],
        betas=(0.9, 0.99),
        eps=1e-15,
    )
    return optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1 ** (1 / max(steps, 1)))


def cloud_in_ball(count: int, radius: float, generator: torch.Generator) -> GaussianCloud:
    """An uninformed first guess: faint grey Gaussians everywhere in a ball around the origin."""
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    means = radius * torch.rand(count, 1, generator=generator) ** (1 / 3) * direction
    spacing = radius * (4 * math.pi / 3 / count) ** (1 / 3)
    return _grey_balls(means, 0.7 * spacing, 0.02)


def cloud_in_silhouettes(
    images: Tensor,  # [V, 4, H, W] sRGB, straight alpha
    cameras: Tensor,  # [V, 4, 4] camera-to-world
    fov_deg: float,
    count: int,
    seed: int = 0,
) -> GaussianCloud:
    """A first guess: grey Gaussians on the surface of the visual hull.

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
    return _grey_balls(means, 0.5 * size, 0.5)


def _grey_balls(means: Tensor, scale: float, opacity: float) -> GaussianCloud:  # [N, 3]
    count = len(means)
    return GaussianCloud(
        means=means.numpy(),
        quats=np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        scales=np.full((count, 3), scale, np.float32),
        opacities=np.full(count, opacity, np.float32),
        sh=np.zeros((count, 1, 3), np.float32),
    )
