"""What the starter's decoder and reconstructor are to make the best of: a denoiser's own guesses."""

from __future__ import annotations

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from ..pipelines.conditioning import condition_on_text
from ..pipelines.model import ViewsModel
from ..training import reconstructor


@torch.no_grad()
def half_denoised(
    model: ViewsModel,
    images: Tensor,  # [B, V, 3, H, W] sRGB 0..1
    captions: list[str],
    cameras: Tensor,  # [B, V, 4, 4] camera-to-world
    generator: torch.Generator,
    noisiest: float = 1.0,  # part of all timesteps
) -> Tensor:  # [B, V, C, h, w]
    """Latents of views as the denoiser believes them to be, at any noise up to some."""
    count = len(images)
    latents = model.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2]).transpose(1, 2)
    conditioning = condition_on_text(model, captions)
    scheduler = DDIMScheduler(**model.settings.schedule)
    x0 = reconstructor.half_denoised(
        model.unet,
        scheduler,
        latents,
        torch.randn(latents.shape, generator=generator),
        torch.randint(round(noisiest * len(scheduler)), (count,), generator=generator),
        conditioning.context[count:],
        cameras,
        **{name: value[count:] for name, value in conditioning.image.items()},
    )
    return x0.transpose(1, 2)


def decoded(model: ViewsModel, latents: Tensor, which: Tensor) -> Tensor:  # [B, V, …], [B, I] -> [B, I, 3, …]
    """Images of some views of each object: what a 3D-aware step sees."""
    chosen = latents[torch.arange(len(latents))[:, None], which]
    return model.decode(chosen.flatten(0, 1)).unflatten(0, which.shape)
