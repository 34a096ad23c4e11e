"""Text to a video of an object from several views at once, every frame of it made to be one object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import align_module_device
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from ..cameras import at_unit_distance
from ..models.lgm import LGM
from ..models.multiview_motion_unet import MultiViewMotionUNet
from ..shared.progress import Progress
from ..shared.protocol import DioramaError
from . import schedules
from .conditioning import Conditioning
from .fast import FastDenoising, FastSteps
from .guidance import branches, guide
from .memory import VIDEO_SAMPLES
from .model import ViewsModel
from .three_d_aware import SplatRendering, three_d_aware_step
from .views import starting_noise

Images = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Consistency:
    """When and how the views of each frame are made to agree on one object."""

    after: tuple[float, ...]  # fractions of the steps, 0..1
    reconstructor: LGM
    input_views: Sequence[int]
    rendering: SplatRendering
    decode: Images  # latents [N, C, h, w] -> sRGB images [N, 3, H, W]
    encode: Images  # the other way
    frames_at_once: int = VIDEO_SAMPLES


@torch.no_grad()
def text_to_video(
    unet: MultiViewMotionUNet,
    tokens: Tensor,  # [B, L, D] of the prompts, encoded
    no_tokens: Tensor,  # [B, L, D] of the negative prompts
    noise: Tensor,  # [B, V, F, C, h, w]
    cameras: Tensor,  # [V, 4, 4] camera-to-world
    steps: int = 50,
    guidance: float = 7.5,
    *,
    schedule: dict[str, Any] = schedules.VIVID_ZOO,
    first_frame: Tensor | None = None,  # [B, V, C, h, w]
    image_embeddings: Tensor | None = None,  # [B, V, D]
    one_branch_at_a_time: bool = False,
    consistency: Consistency | None = None,
    progress: Progress | None = None,
    on_estimate: Callable[[int, Tensor], None] | None = None,
    fast: FastDenoising | None = None,
    stage: str = "Denoising the video",
) -> Tensor:  # [B, V, F, C, h, w]
    """Latents of all frames of all views.

    DDIM with classifier-free guidance. In a 3D-aware step, every frame of both branches of the guidance
    becomes the views of an object of its own, and guidance is applied to these.

    Args:
        noise: decides everything else; its size is that of the video.
        first_frame: clean latents that are the first frame and stay so, for networks that animate it.
        image_embeddings: what CLIP sees in its pictures; the branch without the prompt is told zeros.
        one_branch_at_a_time: evaluates the two branches of the guidance one after the other, in less memory.
        progress: is told of every step, and asked after every network evaluation whether to go on.
        on_estimate: called with the number of steps done and the estimate of the clean latents.
        fast: runs the whole network in some of the steps only.
        stage: what the steps are called for the user.

    Raises:
        DioramaError: E_REQUEST for sizes that the network cannot make; E_CANCELLED.

    Source: Vivid-ZOO (arXiv 2406.08659); the first frame, Animate3D (2407.11398); the 3D-aware step is
    VideoMV's (2403.12010, section 3.3).
    """
    progress = progress or Progress()
    check(unet, noise, cameras)
    _warn_if_not_aligned(unet, progress)
    scheduler = DDIMScheduler(**schedule)
    scheduler.set_timesteps(steps)  # on the CPU, where they are read
    aware = {round(fraction * steps) for fraction in consistency.after} if consistency else set()
    context = torch.cat([no_tokens, tokens])
    told = at_unit_distance(cameras.to(noise)).expand(2 * len(noise), -1, -1, -1)
    given = {} if image_embeddings is None else {"image_embeddings": image_embeddings.to(unet.dtype)}
    seen = {name: torch.cat([torch.zeros_like(each), each]) for name, each in given.items()}
    evaluations = 2 if one_branch_at_a_time else 1
    kept = FastSteps(fast, steps, aware, evaluations) if fast else None
    latents = _beginning_with(first_frame, noise)
    progress.stage(stage)
    for i, t in enumerate(scheduler.timesteps.tolist()):
        both = torch.cat([latents, latents])
        predictions = []
        parts = branches(not one_branch_at_a_time, both, context, told, *seen.values())
        features = kept.begin(i) if kept else evaluations * (None,)
        for (noisy, text, views, *pictures), deep in zip(parts, features, strict=True):
            looks = dict(zip(seen, pictures, strict=True))
            prediction = unet(noisy.to(unet.dtype), t, text, views, deep=deep, **looks)
            predictions.append(prediction.float())
            progress.raise_if_cancelled()
        prediction = torch.cat(predictions)
        if consistency and i in aware:
            x0 = schedules.x0_from_prediction(scheduler, prediction, t, both)
            x0 = one_object_per_frame(x0, cameras, consistency, progress)
            prediction = schedules.prediction_from_x0(scheduler, guide(x0, guidance), t, latents)
        else:
            prediction = guide(prediction, guidance)
        step = scheduler.step(prediction, t, latents)
        latents = _beginning_with(first_frame, step.prev_sample)
        progress.step(i + 1, steps)
        if on_estimate:
            on_estimate(i + 1, _beginning_with(first_frame, step.pred_original_sample))
    return latents


def video_of(
    model: ViewsModel,
    told: Conditioning,
    noise: Tensor,  # [1, V, F, C, h, w]
    cameras: Tensor,  # [V, 4, 4]
    steps: int,
    guidance: float,
    **options: Any,
) -> Tensor:  # [1, V, F, C, h, w]
    """Latents of a video of what the model was told to make, as its settings and its plan have it.

    Args:
        options: more of `text_to_video`.

    Raises:
        DioramaError: as `text_to_video`.
    """
    assert isinstance(model.unet, MultiViewMotionUNet)
    nothing, asked = told.context.chunk(2)
    return text_to_video(
        model.unet,
        asked,
        nothing,
        noise,
        cameras,
        steps,
        guidance,
        schedule=model.settings.schedule,
        one_branch_at_a_time=not model.plan.branches_together,
        **options,
    )


def video_noise(model: ViewsModel, num_views: int, num_frames: int, seed: int) -> Tensor:
    """Noise of a video, [1, V, F, C, h, w], that depends on the seed alone, not on the device."""
    common, *own = (starting_noise(model, num_views, seed, frame) for frame in range(num_frames + 1))
    frames = torch.stack(own, dim=3).permute(0, 2, 3, 1, 4, 5)
    return schedules.mixed_noise(common.transpose(1, 2)[:, :, None], frames, model.settings.shared_noise)


def one_object_per_frame(
    x0: Tensor,  # [B, V, F, C, h, w]
    cameras: Tensor,  # [V, 4, 4]
    consistency: Consistency,
    progress: Progress,
) -> Tensor:  # [B, V, F, C, h, w]
    """Clean latents in which the views of every frame show one set of Gaussians."""
    batch, _, frames = x0.shape[:3]
    samples = x0.permute(0, 2, 3, 1, 4, 5).flatten(0, 1)  # [B * F, C, V, h, w]
    refined = []
    for some in samples.split(consistency.frames_at_once):
        refined.append(
            three_d_aware_step(
                some,
                cameras.to(x0),
                decode=consistency.decode,
                encode=consistency.encode,
                reconstructor=consistency.reconstructor,
                input_views=consistency.input_views,
                rendering=consistency.rendering,
            ).latents.float()
        )
        progress.raise_if_cancelled()
    return torch.cat(refined).unflatten(0, (batch, frames)).permute(0, 3, 1, 2, 4, 5)


def _beginning_with(first_frame: Tensor | None, latents: Tensor) -> Tensor:
    """A video whose first frame, if one is given, is that one: [B, V, F, C, h, w]."""
    if first_frame is None:
        return latents
    return torch.cat([first_frame.unsqueeze(2).to(latents), latents[:, :, 1:]], dim=2)


def check(unet: MultiViewMotionUNet, noise: Tensor, cameras: Tensor) -> None:
    """Refuses noise of a video, [B, V, F, C, h, w], that the network cannot make.

    Raises:
        DioramaError: E_REQUEST.
    """
    views, frames = noise.shape[1:3]
    most = unet.config.motion_max_frames
    if unet.config.motion and frames > most:
        raise DioramaError(
            "E_REQUEST",
            f"{frames} frames; this model's motion has at most {most}",
            f"Ask for {most} frames or fewer.",
        )
    if len(cameras) != views:
        raise DioramaError("E_REQUEST", f"{len(cameras)} cameras for {views} views; one for each is needed")


def _warn_if_not_aligned(unet: MultiViewMotionUNet, progress: Progress) -> None:
    trained = any(_does_something(layer) for name, layer in unet.named_modules() if ".align_" in name)
    trained = trained or unet.config.mv_attention == "animate3d"  # which was trained as a whole
    if unet.config.motion and unet.camera_embedding is not None and not trained:
        progress.log(
            "warning",
            "the alignment between views and motion is not trained: views may disagree and move badly",
        )


def _does_something(layer: torch.nn.Module) -> bool:
    """Whether any weight of a layer is not zero, wherever the weights wait."""
    with align_module_device(layer):
        return any(bool(parameter.any()) for parameter in layer.parameters())
