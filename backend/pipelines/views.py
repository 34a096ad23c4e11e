"""Prompt or image to splats of a still object: views are denoised, reconstructed and fitted."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..gaussians.fitting import fit, halved
from ..shared.ply import GaussianCloud
from ..shared.progress import Progress
from ..shared.request import GenerationRequest
from .conditioning import condition
from .denoise import Sampling, denoise
from .model import ViewsModel
from .noise import initial_noise
from .preview import Show
from .reconstruction import matte, to_cloud, views_to_gaussians

# Of fitting, for each view: from elsewhere than the 8 views of true objects it comes to 33.2 dB, half of it
# to 31.8; half as much again is sharper, but hardly nearer.
_STEPS_A_VIEW, _MOST_STEPS = 80, 640
# Gaussians; of fewer, details are soft. Twice as many are no more than torch gives to one thread: beyond,
# sums and sigmoids of them are rounded by the number of threads, and so would be what a seed means.
_FEWEST = 16_384


def still_splats(
    model: ViewsModel,
    request: GenerationRequest,
    image: np.ndarray | None,  # [H, W, 4] of the object, for image-conditioned models
    cameras: Tensor,  # [V, 4, 4]
    progress: Progress,
    show: Show,
) -> tuple[list[GaussianCloud], Tensor]:  # one cloud, [V, 1, 4, H, W]
    """Splats of an object that stands still, and its views with straight alpha.

    Args:
        show: called after every denoising step.

    Raises:
        DioramaError: E_CANCELLED.
    """
    conditioning = condition(model, request.prompt, image)
    sampling = Sampling.of(request, model.settings)

    # 1. Denoise all views at once.
    progress.stage("Generating views")
    latents = denoise(
        model,
        conditioning,
        initial_noise(model, len(cameras), request.seed),
        cameras,
        sampling,
        progress=progress,
        on_step=lambda i, x0: show(
            i, sampling.steps, len(cameras), lambda views: model.decode_frames(x0[0, :views])
        ),
    )
    images = model.decode_frames(latents[0])[:, 0].cpu()  # [V, 3, H, W]

    # 2. Reconstruct them, and cut out of them what the splats cover.
    progress.stage("Reconstructing")
    gaussians = views_to_gaussians(model, images[None], cameras)
    rgba = matte(model, images, gaussians, cameras)  # [V, 4, H, W]

    # 3. Fit the splats to the views.
    cloud = refined(to_cloud(gaussians), rgba, cameras, model.settings.fov_deg, request.seed, progress)
    return [cloud], rgba[:, None]


def refined(
    cloud: GaussianCloud,
    rgba: Tensor,  # [V, 4, H, W] sRGB, straight alpha
    cameras: Tensor,  # [V, 4, 4]
    fov_deg: float,
    seed: int,
    progress: Progress,
) -> GaussianCloud:
    """The cloud fitted to views, of twice as many Gaussians if it has few."""
    progress.stage("Refining the splats")
    if len(cloud) < _FEWEST:
        cloud = halved(cloud)
    steps = min(_STEPS_A_VIEW * len(cameras), _MOST_STEPS)
    with torch.inference_mode(False), torch.enable_grad():
        return fit(
            cloud,
            rgba.clone(),
            cameras,
            fov_deg,
            steps=steps,
            seed=seed,
            on_step=lambda i, _: progress.step(i, steps),
        )
