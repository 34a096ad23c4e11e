"""Trains the reconstructor: a few pictures of an object in, Gaussians out that look right from everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..cameras import reconstruction_cameras
from ..gaussians.color import linear_to_srgb, srgb_to_linear
from ..models.lgm import LGM
from ..pipelines.three_d_aware import SplatRendering, reconstruct, render
from .dataset import FOV_DEG, GREY, WorldViews, over
from .loop import Batch
from .sheets import write_sheet

INPUT_VIEWS = (0, 1, 2, 3)  # of the cameras of a batch; after them come those that are compared
COMPARED_VIEWS = 6


class ReconstructorObjective(nn.Module):
    """Pictures of the Gaussians are the object's own, and so are its silhouettes.

    Source: LGM (arXiv 2402.05054), equation 4, without the perceptual term; composited in linear light, as
    Blender will do it.
    """

    def __init__(self, reconstructor: LGM) -> None:
        super().__init__()
        self.reconstructor = reconstructor

    def forward(
        self,
        images: Tensor,  # [B, 4, 3, H, W] sRGB 0..1, as a pipeline would see them
        targets: Tensor,  # [B, V, 4, H, W] sRGB, straight alpha
        cameras: Tensor,  # [B, 4 + V, 4, 4] camera-to-world
        background: Tensor,  # [] grey, sRGB
    ) -> Tensor:
        rendering = SplatRendering(FOV_DEG, targets.shape[-1], float(background), "linear")
        gaussians = reconstruct(images, cameras, INPUT_VIEWS, self.reconstructor, FOV_DEG)
        compared = reconstruction_cameras(cameras)[:, len(INPUT_VIEWS) :]
        colors, alphas = render(gaussians, compared, rendering)
        alpha = targets[:, :, 3:]
        light = srgb_to_linear(targets[:, :, :3]) * alpha + srgb_to_linear(background) * (1 - alpha)
        return (colors - linear_to_srgb(light)).square().mean() + (alphas - alpha).square().mean()


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


def show(reconstructor: LGM, batch: Batch, path: Path) -> float:
    """Writes true pictures above those of the Gaussians; returns the PSNR over all of the batch, in dB."""
    rendering = SplatRendering(FOV_DEG, batch["targets"].shape[-1], GREY, "linear")
    gaussians = reconstruct(batch["images"], batch["cameras"], INPUT_VIEWS, reconstructor, FOV_DEG)
    cameras = reconstruction_cameras(batch["cameras"])[:, len(INPUT_VIEWS) :]
    colors, _ = render(gaussians, cameras, rendering)
    truth = over(batch["targets"])
    write_sheet(path, torch.stack([truth[:, 0], colors[:, 0], truth[:, 1], colors[:, 1]]))
    return -10 * (colors - truth).square().mean().log10().item()
