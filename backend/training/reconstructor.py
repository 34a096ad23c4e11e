"""Trains the reconstructor: a few images of an object in, Gaussians out that look right from everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from ..cameras import reconstruction_cameras
from ..gaussians.color import decode, encode, over
from ..models.lgm import LGM
from ..pipelines.schedules import x0_from_prediction
from ..pipelines.three_d_aware import SplatRendering, reconstruct, render
from ..shared.sequence_file import Blending
from .image_grid import write_image_grid
from .loop import Batch


class ReconstructorObjective(nn.Module):
    """Images of the Gaussians are the object's own, and so are its silhouettes.

    Args:
        fov_deg: of all cameras.
        blending: the space in which the Gaussians are composited; "linear" as Blender will do it.
        input_views: which of a batch's cameras saw the images; those that follow them are compared.
        likeness: a perceptual distance of images, [N, 3, H, W] sRGB each to [N], to be small too.

    Source: LGM (arXiv 2402.05054), equation 4.
    """

    def __init__(
        self,
        reconstructor: LGM,
        fov_deg: float,
        blending: Blending,
        input_views: tuple[int, ...],
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
        rendering = SplatRendering(self.fov_deg, targets.shape[-1], 0.0, self.blending)
        gaussians = reconstruct(images, cameras, self.input_views, self.reconstructor, self.fov_deg)
        compared = reconstruction_cameras(cameras)[:, max(self.input_views) + 1 :]
        colors, alphas = render(gaussians, compared, rendering)
        alpha = targets[:, :, 3:]
        behind = background.expand(3).view(3, 1, 1)
        seen = encode(
            decode(colors, self.blending) + decode(behind, self.blending) * (1 - alphas), self.blending
        )
        truth = over(targets, behind, self.blending)
        loss = (seen - truth).square().mean() + (alphas - alpha).square().mean()
        if self.likeness:
            loss = loss + self.likeness(seen.flatten(0, 1), truth.flatten(0, 1)).mean()
        return loss


@torch.no_grad()
def half_denoised(
    unet: nn.Module,
    scheduler: DDIMScheduler,
    latents: Tensor,  # [B, C, V, h, w]
    noise: Tensor,  # [B, C, V, h, w]
    timesteps: Any,  # [B], which diffusers annotates as of a class of its own
    context: Tensor,  # [B, L, D]
    cameras: Tensor,  # [B, V, 4, 4] camera-to-world
    **image: Tensor,  # more arguments of an image-conditioned denoiser
) -> Tensor:  # [B, C, V, h, w]
    """Clean latents as the denoiser believes them to be, from one look at noisy ones, without guidance.

    Source: VideoMV (arXiv 2403.12010), section 3.2: what a 3D-aware step will see.
    """
    noisy = scheduler.add_noise(latents, noise, timesteps)
    prediction = unet(noisy, timesteps, context, cameras, **image).float()
    samples = zip(prediction.split(1), timesteps.tolist(), noisy.split(1), strict=True)
    return torch.cat([x0_from_prediction(scheduler, some, t, at) for some, t, at in samples])


def show(
    reconstructor: LGM,
    batch: Batch,
    path: Path,
    rendering: SplatRendering,
    input_views: tuple[int, ...],
) -> float:
    """Writes true images above those of the Gaussians; returns the PSNR over all of the batch, in dB.

    Args:
        input_views: which of the batch's cameras saw the images; those that follow them are compared.
    """
    gaussians = reconstruct(batch["images"], batch["cameras"], input_views, reconstructor, rendering.fov_deg)
    cameras = reconstruction_cameras(batch["cameras"])[:, max(input_views) + 1 :]
    colors, _ = render(gaussians, cameras, rendering)
    truth = over(batch["targets"], rendering.background)
    write_image_grid(path, torch.stack([truth[:, 0], colors[:, 0], truth[:, 1], colors[:, 1]]))
    return -10 * (colors - truth).square().mean().log10().item()
