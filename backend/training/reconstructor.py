"""Trains the reconstructor: a few pictures of an object in, Gaussians out that look right from everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from ..cameras import reconstruction_cameras
from ..gaussians.color import linear_to_srgb, srgb_to_linear
from ..models.lgm import LGM
from ..pipelines.schedules import x0_from_prediction
from ..pipelines.three_d_aware import SplatRendering, reconstruct, render
from ..starter.dataset import FOV_DEG, GREY, WorldViews, over
from .image_grid import write_sheet
from .loop import Batch

INPUT_VIEWS = (0, 1, 2, 3)  # of the cameras of a batch; after them come those that are compared
COMPARED_VIEWS = 6


class ReconstructorObjective(nn.Module):
    """Pictures of the Gaussians are the object's own, and so are its silhouettes.

    Args:
        fov_deg: of all cameras.
        blending: the space in which the Gaussians are composited; "linear" as Blender will do it.
        input_views: which of a batch's cameras saw the images; those that follow them are compared.
        likeness: a perceptual distance of pictures, [N, 3, H, W] sRGB each to [N], to be small too.

    Source: LGM (arXiv 2402.05054), equation 4.
    """

    def __init__(
        self,
        reconstructor: LGM,
        fov_deg: float = FOV_DEG,
        blending: Literal["linear", "display"] = "linear",
        input_views: tuple[int, ...] = INPUT_VIEWS,
        likeness: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.reconstructor = reconstructor
        self.fov_deg = fov_deg
        self.blending = blending
        self.input_views = input_views
        self.likeness = likeness

    def forward(
        self,
        images: Tensor,  # [B, 4, 3, H, W] sRGB 0..1, as a pipeline would see them
        targets: Tensor,  # [B, V, 4, H, W] sRGB, straight alpha
        cameras: Tensor,  # [B, .. + V, 4, 4] camera-to-world
        background: Tensor,  # [] grey or [3], sRGB
    ) -> Tensor:
        to_light, to_display = (
            (srgb_to_linear, linear_to_srgb) if self.blending == "linear" else (_same, _same)
        )
        rendering = SplatRendering(self.fov_deg, targets.shape[-1], 0.0, self.blending)
        gaussians = reconstruct(images, cameras, self.input_views, self.reconstructor, self.fov_deg)
        compared = reconstruction_cameras(cameras)[:, max(self.input_views) + 1 :]
        colors, alphas = render(gaussians, compared, rendering)
        alpha = targets[:, :, 3:]
        behind = to_light(background.expand(3).view(3, 1, 1))
        seen = to_display(to_light(colors) + behind * (1 - alphas))
        truth = to_display(to_light(targets[:, :, :3]) * alpha + behind * (1 - alpha))
        loss = (seen - truth).square().mean() + (alphas - alpha).square().mean()
        if self.likeness:
            loss = loss + self.likeness(seen.flatten(0, 1), truth.flatten(0, 1)).mean()
        return loss


def _same(color: Tensor) -> Tensor:
    return color


@torch.no_grad()
def half_denoised(
    unet: nn.Module,
    scheduler: DDIMScheduler,
    latents: Tensor,  # [B, C, V, h, w]
    noise: Tensor,  # [B, C, V, h, w]
    timesteps: Any,  # [B], which diffusers annotates as of a class of its own
    context: Tensor,  # [B, L, D]
    cameras: Tensor,  # [B, V, 4, 4] camera-to-world
    **image: Tensor,  # what an image-conditioned denoiser is told besides
) -> Tensor:  # [B, C, V, h, w]
    """Clean latents as the denoiser believes them to be, from one look at noisy ones, without guidance.

    Source: VideoMV (arXiv 2403.12010), section 3.2: what a 3D-aware step will see.
    """
    noisy = scheduler.add_noise(latents, noise, timesteps)
    prediction = unet(noisy, timesteps, context, cameras, **image).float()
    samples = zip(prediction.split(1), timesteps.tolist(), noisy.split(1), strict=True)
    return torch.cat([x0_from_prediction(scheduler, some, t, at) for some, t, at in samples])


def batch_of(
    world: WorldViews,
    generator: torch.Generator,
    size: int,
    seen: Callable[[Tensor, Tensor, torch.Generator], Tensor] | None = None,
) -> Batch:
    """Random objects, from four cameras a quarter turn apart and from others to compare.

    Args:
        seen: what the reconstructor sees of objects [B] from views [B, 4], [B, 4, 3, H, W]; true pictures
            if not given.
    """
    count, views = world.rgba.shape[:2]
    objects = torch.randint(count, (size,), generator=generator)
    first = torch.randint(views, (size, 1), generator=generator)
    inputs = (first + torch.arange(0, views, views // len(INPUT_VIEWS))) % views
    compared = torch.rand(size, views, generator=generator).argsort(1)[:, :COMPARED_VIEWS]
    return {
        "images": seen(objects, inputs, generator) if seen else over(world.pictures(objects, inputs)),
        "targets": world.pictures(objects, compared),
        "cameras": world.cameras[torch.cat([inputs, compared], 1)],
        "background": torch.rand((), generator=generator),
    }


def show(
    reconstructor: LGM,
    batch: Batch,
    path: Path,
    rendering: SplatRendering | None = None,
    input_views: tuple[int, ...] = INPUT_VIEWS,
) -> float:
    """Writes true pictures above those of the Gaussians; returns the PSNR over all of the batch, in dB.

    Args:
        rendering: the starter's if not given.
        input_views: which of the batch's cameras saw the images; those that follow them are compared.
    """
    rendering = rendering or SplatRendering(FOV_DEG, batch["targets"].shape[-1], GREY, "linear")
    gaussians = reconstruct(batch["images"], batch["cameras"], input_views, reconstructor, rendering.fov_deg)
    cameras = reconstruction_cameras(batch["cameras"])[:, max(input_views) + 1 :]
    colors, _ = render(gaussians, cameras, rendering)
    truth = over(batch["targets"], rendering.background)
    write_sheet(path, torch.stack([truth[:, 0], colors[:, 0], truth[:, 1], colors[:, 1]]))
    return -10 * (colors - truth).square().mean().log10().item()
