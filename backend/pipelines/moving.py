"""Prompt to moving splats: a video from several sides, splats of every frame, one set that moves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..gaussians.tracking import track
from ..shared.ply import GaussianCloud
from ..shared.progress import Progress
from ..shared.request import GenerationRequest
from . import conditioning, reconstruction
from .animating import Estimate, animate, on_plain
from .model import ViewsModel
from .multiview_video import Consistency, video_noise, video_of

# Called with the steps done, their total, and what makes pictures [V, F, 3, H, W] of the unfinished result.
Show = Callable[[int, int, Callable[[], Tensor]], None]


def pictures_of(
    model: ViewsModel, latents: Tensor, progress: Progress | None = None
) -> Tensor:  # [V, F, C, h, w] -> [V, F, 3, H, W]
    """The pictures of all frames of all views."""
    return model.decode(latents.flatten(0, 1), progress).unflatten(0, latents.shape[:2])


def consistency_of(model: ViewsModel, num_views: int) -> Consistency:
    """When and how the model's views of a frame are made to agree."""
    settings, seen = model.settings, reconstruction.input_views(model, num_views)
    return Consistency(
        settings.three_d_aware, model.reconstructor, seen, settings.rendering, model.decode, model.encode
    )


def moving_splats(
    model: ViewsModel,
    request: GenerationRequest,
    cameras: Tensor,  # [V, 4, 4]
    progress: Progress,
    show: Show,
) -> tuple[list[GaussianCloud], Tensor]:
    """The same splats in every frame, and the frames of every view, cut out: [V, F, 4, H, W].

    Args:
        show: called after every step.

    Raises:
        DioramaError: E_REQUEST for more frames than the model knows; E_CANCELLED.
    """
    settings = model.settings

    def on_estimate(i: int, steps: int, latents: Tensor) -> None:
        show(i, steps, lambda: pictures_of(model, latents))

    animates = settings.first_frame is not None
    latents = (animate if animates else _video)(model, request, cameras, progress, on_estimate)
    progress.stage("Decoding the video")
    images = pictures_of(model, latents[0], progress)
    if animates:  # the reconstructor knows another grey around objects
        images = on_plain(images, settings.rendering.background)

    progress.stage("Reconstructing every frame")
    clouds, pictures = [], []
    num_frames = images.shape[1]
    for frame in range(num_frames):
        gaussians = reconstruction.views_to_gaussians(model, images[None, :, frame], cameras)
        clouds.append(reconstruction.cloud_of(gaussians))
        pictures.append(reconstruction.cut_out(model, images[:, frame], gaussians, cameras))
        progress.step(frame + 1, num_frames)
    video = torch.stack(pictures, dim=1).cpu()  # [V, F, 4, H, W]

    progress.stage("Following the splats")
    with torch.inference_mode(False), torch.enable_grad():
        clouds = track(
            video.clone(), cameras, settings.fov_deg, clouds, seed=request.seed, on_step=progress.step
        )
    return clouds, video


def _video(
    model: ViewsModel,
    request: GenerationRequest,
    cameras: Tensor,  # [V, 4, 4]
    progress: Progress,
    on_estimate: Estimate,
) -> Tensor:  # [1, V, F, C, h, w]
    """Latents of a video that the prompt alone decides."""
    settings = model.settings
    num_views, num_frames = len(cameras), request.frames or settings.num_frames
    steps = request.steps or settings.steps
    return video_of(
        model,
        conditioning.told_by_text(model, [request.prompt]),
        video_noise(model, num_views, num_frames, request.seed),
        cameras,
        steps,
        settings.guidance if request.guidance is None else request.guidance,
        consistency=consistency_of(model, num_views),
        progress=progress,
        on_estimate=lambda i, x0: on_estimate(i, steps, x0[0]),
        fast=settings.fast if request.fast else None,
    )
