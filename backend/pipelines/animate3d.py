"""Prompt to a multi-view video as Animate3D does (arXiv 2407.11398): first still views, then their motion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from diffusers.pipelines.free_init_utils import FreeInitMixin
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from ..seeds import generator_for
from ..shared.progress import Progress
from ..shared.request import GenerationRequest
from . import image_source
from .conditioning import Conditioning, condition_on_text
from .denoise import Sampling, check_sizes, denoise
from .model import ViewsModel
from .noise import initial_noise, video_noise
from .preview import ShowLatents

# Behind the objects of Animate3D's training, sRGB; on white it fails, as its users found.
GREY = 127 / 255


def video(
    model: ViewsModel,
    request: GenerationRequest,
    cameras: Tensor,  # [V, 4, 4]
    progress: Progress,
    show: ShowLatents,
) -> Tensor:  # [1, V, F, C, h, w]
    """Latents of a video of the prompt's object, on `GREY`.

    The same network makes the first frame without its motion modules, as MVDream, and then the motion; both
    are conditioned on the prompt. The first frame is encoded to the mean of its latents, where the published
    pipeline samples them: the same images give the same video.

    Raises:
        DioramaError: E_REQUEST for sizes that the network cannot make; E_CANCELLED.

    Source: the released inference.
    """
    settings = model.settings
    sampling = Sampling.of(request, settings)
    noise = video_noise(model, len(cameras), request.frames, request.seed)
    check_sizes(model, noise, cameras)

    # 1. Still views, on the grey of the training.
    images = _on_grey(_first_frame(model, request, cameras, progress, show), progress)

    # 2. Condition on them, in addition to the prompt.
    first_frame = model.encode(images)[None]  # [1, V, C, h, w]
    embeddings = model.encode_image(images, "bicubic").transpose(0, 1)  # [1, V, D]
    conditioning = Conditioning(
        condition_on_text(model, [request.prompt]).context,
        {"image_embeddings": torch.cat([torch.zeros_like(embeddings), embeddings])},
    )

    # 3. Denoise the video, in rounds.
    def denoised(noise: Tensor, number: int) -> Tensor:
        progress.stage(f"Denoising the video, {number} of {settings.rounds}")
        return denoise(
            model,
            conditioning,
            noise,
            cameras,
            sampling,
            first_frame=first_frame,
            progress=progress,
            on_step=lambda i, x0: show(i, sampling.steps, x0),
        )

    return free_init(denoised, noise, settings.schedule, settings.rounds, request.seed)


def free_init(
    denoised: Callable[[Tensor, int], Tensor],
    noise: Tensor,  # [B, V, F, C, h, w]
    schedule: dict[str, Any],
    rounds: int,
    seed: int,
) -> Tensor:  # [B, V, F, C, h, w]
    """A video denoised several times, each time from noise with the low frequencies of the one before.

    The first frame is given, and no part of it.

    Args:
        denoised: makes a video of noise; its other argument is the number of the round, from 1.

    Source: FreeInit (arXiv 2312.07537), with diffusers' defaults.
    """
    mixer: Any = FreeInitMixin()
    mixer.scheduler = DDIMScheduler(**schedule)
    mixer.enable_free_init(rounds)
    generator = generator_for(seed, "rounds")
    latents = noise
    for number in range(rounds):
        later = latents[:, :, 1:].transpose(2, 3).flatten(0, 1).float()  # [B * V, C, F - 1, h, w]
        # No steps: the scheduler here only adds noise.
        mixed, _ = mixer._apply_free_init(later, number, 0, later.device, later.dtype, generator)
        mixed = mixed.unflatten(0, noise.shape[:2]).transpose(2, 3)
        latents = denoised(torch.cat([noise[:, :, :1], mixed.to(noise)], dim=2), number + 1)
    return latents


def with_background(images: Tensor, background: float) -> Tensor:  # [..., 3, H, W] sRGB -> the same
    """Images of objects on a plain background, with another grey in its place."""
    flat = images.flatten(0, -4).float().movedim(1, -1).cpu().numpy()
    changed = [torch.from_numpy(image_source.with_background(image, background)) for image in flat]
    return torch.stack(changed).movedim(-1, 1).reshape(images.shape).to(images)


def _first_frame(
    model: ViewsModel,
    request: GenerationRequest,
    cameras: Tensor,  # [V, 4, 4]
    progress: Progress,
    show: ShowLatents,
) -> Tensor:  # [V, 3, H, W] sRGB
    """Still views of the prompt, which the video begins with."""
    still = dataclasses.replace(model, settings=model.settings.of_first_frame())
    sampling = Sampling.of(request, still.settings)
    progress.stage("Generating the first frame")
    latents = denoise(
        still,
        condition_on_text(still, [request.prompt]),
        initial_noise(still, len(cameras), request.seed),
        cameras,
        sampling,
        progress=progress,
        on_step=lambda i, x0: show(i, sampling.steps, x0),
    )
    return still.decode_frames(latents[0])[:, 0]


def _on_grey(images: Tensor, progress: Progress) -> Tensor:  # [V, 3, H, W]
    """The first frame on the grey that the motion was trained with."""
    plain = [image_source.has_plain_edge(image.movedim(0, -1).cpu().numpy()) for image in images.float()]
    if not all(plain):
        progress.log(
            "warning",
            "The background of the generated views is not of one colour; "
            "this model animates objects on plain grey, so the motion may be poor. Try another seed.",
        )
    return with_background(images, GREY)
