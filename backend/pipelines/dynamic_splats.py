"""Prompt to dynamic splats: a multi-view video, splats of every frame, then one set that moves."""

from __future__ import annotations

import torch
from torch import Tensor

from ..gaussians.tracking import track
from ..shared.ply import GaussianCloud
from ..shared.progress import Progress
from ..shared.request import GenerationRequest
from . import animate3d, vivid_zoo
from .model import ViewsModel
from .preview import Show
from .reconstruction import matte, to_cloud, views_to_gaussians


def dynamic_splats(
    model: ViewsModel,
    request: GenerationRequest,
    cameras: Tensor,  # [V, 4, 4]
    progress: Progress,
    show: Show,
) -> tuple[list[GaussianCloud], Tensor]:
    """The same splats in every frame, and the frames of every view with straight alpha: [V, F, 4, H, W].

    Args:
        show: called after every denoising step.

    Raises:
        DioramaError: E_REQUEST for more frames than the model knows; E_CANCELLED.
    """
    settings = model.settings

    def show_latents(i: int, steps: int, x0: Tensor) -> None:
        show(i, steps, len(cameras), lambda views: model.decode_frames(x0[0, :views]))

    # 1. Denoise a video of all views.
    if settings.first_frame is None:
        latents = vivid_zoo.video(model, request, cameras, progress, show_latents)
    else:
        latents = animate3d.video(model, request, cameras, progress, show_latents)

    # 2. Decode it, before the background that the reconstructor was trained on.
    progress.stage("Decoding the video")
    images = model.decode_frames(latents[0], progress)
    if settings.first_frame is not None:
        images = animate3d.with_background(images, settings.rendering.background)

    # 3. Reconstruct every frame on its own.
    progress.stage("Reconstructing every frame")
    clouds, frames = [], []
    num_frames = images.shape[1]
    for frame in range(num_frames):
        gaussians = views_to_gaussians(model, images[None, :, frame], cameras)
        clouds.append(to_cloud(gaussians))
        frames.append(matte(model, images[:, frame], gaussians, cameras))
        progress.step(frame + 1, num_frames)
    video = torch.stack(frames, dim=1).cpu()  # [V, F, 4, H, W]

    # 4. Track the splats of the first frame through all of them.
    progress.stage("Following the splats")
    with torch.inference_mode(False), torch.enable_grad():
        clouds = track(
            video.clone(), cameras, settings.fov_deg, clouds, seed=request.seed, on_step=progress.step
        )
    return clouds, video
