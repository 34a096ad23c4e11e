"""A prompt to a video from several sides in two steps: first views that stand still, then their motion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from diffusers.pipelines.free_init_utils import FreeInitMixin
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from ..models.multiview_motion_unet import MultiViewMotionUNet
from ..seeds import generator_for
from ..shared.progress import Progress
from ..shared.request import GenerationRequest
from . import conditioning, image_source, views
from .model import ViewsModel
from .multiview_video import check, video_noise, video_of

# What stands around the objects of Animate3D's training, sRGB; before white it fails, as its users found.
GREY = 127 / 255

Estimate = Callable[[int, int, Tensor], None]  # the steps done, their total, latents [V, F, C, h, w]


def animate(
    model: ViewsModel,
    request: GenerationRequest,
    cameras: Tensor,  # [V, 4, 4]
    progress: Progress,
    on_estimate: Estimate,
) -> Tensor:  # [1, V, F, C, h, w]
    """Latents of a video of the prompt's object, which stands before `GREY`.

    The same network makes the first frame without its motion, as MVDream, and then the motion; both are told
    the prompt. The first frame's pictures are encoded to the mean of their latents, where the published
    pipeline takes a random one: the same pictures give the same video.

    Raises:
        DioramaError: E_REQUEST for sizes that the network cannot make; E_CANCELLED.

    Source: Animate3D (arXiv 2407.11398), the released inference.
    """
    settings = model.settings
    assert isinstance(model.unet, MultiViewMotionUNet)
    steps = request.steps or settings.steps
    noise = video_noise(model, len(cameras), request.frames or settings.num_frames, request.seed)
    check(model.unet, noise, cameras)
    pictures = _before_grey(_first_frame(model, request, cameras, progress, on_estimate), progress)
    clean = model.encode(pictures)[None]  # [1, V, C, h, w]
    seen = model.encode_image(pictures, "bicubic").transpose(0, 1)  # [1, V, D]
    told = conditioning.told_by_text(model, [request.prompt])

    def video(noise: Tensor, number: int) -> Tensor:
        return video_of(
            model,
            told,
            noise,
            cameras,
            steps,
            settings.guidance if request.guidance is None else request.guidance,
            first_frame=clean,
            image_embeddings=seen,
            progress=progress,
            on_estimate=lambda i, x0: on_estimate(i, steps, x0[0]),
            fast=settings.fast if request.fast else None,
            stage=f"Denoising the video, {number} of {settings.rounds}",
        )

    return in_rounds(video, noise, settings.schedule, settings.rounds, request.seed)


def in_rounds(
    video: Callable[[Tensor, int], Tensor],
    noise: Tensor,  # [B, V, F, C, h, w]
    schedule: dict[str, Any],
    rounds: int,
    seed: int,
) -> Tensor:  # [B, V, F, C, h, w]
    """A video that is made several times, each time from noise with the slow, coarse part of the one before.

    The first frame is given, and no part of it.

    Args:
        video: makes one of noise; is told the number of the round, from 1.

    Source: FreeInit (arXiv 2312.07537), with diffusers' defaults.
    """
    mixer: Any = FreeInitMixin()
    mixer.scheduler = DDIMScheduler(**schedule)
    mixer.enable_free_init(rounds)
    generator = generator_for(seed, "rounds")
    latents = noise
    for number in range(rounds):
        moving = latents[:, :, 1:].transpose(2, 3).flatten(0, 1).float()  # [B * V, C, F - 1, h, w]
        # No steps: the scheduler here only adds noise.
        mixed, _ = mixer._apply_free_init(moving, number, 0, moving.device, moving.dtype, generator)
        mixed = mixed.unflatten(0, noise.shape[:2]).transpose(2, 3)
        latents = video(torch.cat([noise[:, :, :1], mixed.to(noise)], dim=2), number + 1)
    return latents


def on_plain(images: Tensor, background: float) -> Tensor:  # [..., 3, H, W] sRGB -> the same
    """Pictures of objects with another grey around them than they have."""
    flat = images.flatten(0, -4).float().movedim(1, -1).cpu().numpy()
    changed = [torch.from_numpy(image_source.before(picture, background)) for picture in flat]
    return torch.stack(changed).movedim(-1, 1).reshape(images.shape).to(images)


def _first_frame(
    model: ViewsModel,
    request: GenerationRequest,
    cameras: Tensor,  # [V, 4, 4]
    progress: Progress,
    on_estimate: Estimate,
) -> Tensor:  # [V, 3, H, W] sRGB
    """The views that are animated then."""
    still = dataclasses.replace(model, settings=model.settings.of_first_frame())
    steps = request.steps or still.settings.steps
    progress.stage("Generating the first frame")

    def on_step(i: int, x0: Tensor) -> None:
        progress.step(i, steps)
        on_estimate(i, steps, x0[0].transpose(0, 1)[:, None])

    latents = views.denoise(
        still,
        conditioning.told_by_text(still, [request.prompt]),
        views.starting_noise(still, len(cameras), request.seed),
        cameras,
        steps,
        still.settings.guidance if request.guidance is None else request.guidance,
        still.settings.three_d_aware,
        on_step,
        still.settings.fast if request.fast else None,
    )
    return still.decode(latents[0].transpose(0, 1))


def _before_grey(pictures: Tensor, progress: Progress) -> Tensor:  # [V, 3, H, W]
    """The first frame as it has to be for being animated."""
    plain = [
        image_source.has_plain_edge(picture.movedim(0, -1).cpu().numpy()) for picture in pictures.float()
    ]
    if not all(plain):
        progress.log(
            "warning",
            "The background of the generated views is not of one colour; "
            "this model animates objects before plain grey, so the motion may be poor. Try another seed.",
        )
    return on_plain(pictures, GREY)
