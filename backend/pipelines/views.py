"""Prompt to views to splats: denoises all views at once, and makes them agree on one object on the way."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from ..seeds import generator_for
from . import schedules
from .conditioning import Conditioning
from .fast import FastDenoising, FastSteps
from .guidance import branches, guide
from .latents import latent_size
from .model import ViewsModel
from .reconstruction import input_views
from .three_d_aware import three_d_aware_step


def denoise(
    model: ViewsModel,
    told: Conditioning,
    noise: Tensor,  # [B, 4, V, h, w]
    cameras: Tensor,  # [V, 4, 4] camera-to-world
    steps: int,
    guidance: float,
    three_d_aware: tuple[float, ...],
    on_step: Callable[[int, Tensor], None] | None = None,
    fast: FastDenoising | None = None,
) -> Tensor:  # [B, 4, V, h, w]
    """Latents of the views of what the model was told to make.

    DDIM with classifier-free guidance. In a 3D-aware step both branches of the guidance become the latents of
    an object of their own, and guidance is applied to these.

    Args:
        on_step: called with the number of steps done and the estimate of the clean latents; may raise.
        fast: runs the whole network in some of the steps only.

    Source: VideoMV (arXiv 2403.12010), section 3.3 and algorithm 1.
    """
    settings = model.settings
    scheduler = DDIMScheduler(**settings.schedule)
    scheduler.set_timesteps(steps)  # on the CPU, where they are read
    aware = {round(fraction * steps) for fraction in three_d_aware}
    cameras = cameras.to(noise)
    evaluations = 1 if model.plan.branches_together else 2
    kept = FastSteps(fast, steps, aware, evaluations) if fast else None
    latents = noise
    for i, t in enumerate(scheduler.timesteps.tolist()):
        both = latents.repeat(2, 1, 1, 1, 1)
        prediction = model.predict(both, t, told.context, cameras, told.image, kept.begin(i) if kept else ())
        if i in aware:
            x0 = schedules.x0_from_prediction(scheduler, prediction, t, both)
            x0 = torch.cat(
                [
                    three_d_aware_step(
                        some,
                        cameras,
                        decode=model.decode,
                        encode=model.encode,
                        reconstructor=model.reconstructor,
                        input_views=input_views(model, len(cameras)),
                        rendering=settings.rendering,
                    ).latents.float()
                    for (some,) in branches(model.plan.branches_together, x0)
                ]
            )
            prediction = schedules.prediction_from_x0(scheduler, guide(x0, guidance), t, latents)
        else:
            prediction = guide(prediction, guidance)
        step = scheduler.step(prediction, t, latents)
        latents = step.prev_sample
        if on_step:
            on_step(i + 1, step.pred_original_sample)
    return latents


def starting_noise(model: ViewsModel, num_views: int, seed: int, frame: int = 0) -> Tensor:  # [1, 4, V, h, w]
    """Noise that depends on the seed and the frame alone, not on the device."""
    channels, height, width = latent_size(model.autoencoder.config, model.settings.size_px)
    shape = (1, channels, num_views, height, width)
    return torch.randn(shape, generator=generator_for(seed, f"views {frame}" if frame else "views")).to(
        model.device
    )
