"""The denoising loop of every model: samplers, classifier-free guidance, 3D-aware steps and DeepCache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.deepcache import DeepFeatures
from ..models.multiview_motion_unet import MultiViewMotionUNet
from ..shared.progress import Progress
from ..shared.protocol import DioramaError
from ..shared.request import GenerationRequest
from . import schedules
from .conditioning import Conditioning
from .deepcache import DeepCache, DeepCacheConfig
from .guidance import apply_cfg, split_cfg_batch
from .memory import OBJECTS_AT_ONCE
from .model import ViewsModel
from .reconstruction import input_views
from .samplers import Sampler, begin_anew, scheduler_of
from .settings import ModelSettings
from .three_d_aware import three_d_aware_step

_SHARPENING = 2  # steps after the last 3D-aware one: it makes views as soft as splats are


@dataclass(frozen=True)
class Sampling:
    """How latents are sampled.

    Attributes:
        steps: of the sampler.
        guidance: scale of classifier-free guidance; 1 is the conditional prediction alone.
        three_d_aware: which steps make the views those of one object, as fractions of the steps, 0..1.
        cache: DeepCache; None evaluates the whole network in every step.
        sampler: which solver goes from step to step.
    """

    steps: int
    guidance: float
    three_d_aware: tuple[float, ...] = ()
    cache: DeepCacheConfig | None = None
    sampler: Sampler = "ddim"

    @classmethod
    def of(cls, request: GenerationRequest, settings: ModelSettings) -> Sampling:
        """The request's settings, or those of its preset where the request leaves them out."""
        preset = settings.preset(request.preset)
        return cls(
            request.steps or preset.steps,
            settings.guidance if request.guidance is None else request.guidance,
            settings.three_d_aware,
            settings.fast if request.fast or preset.fast else None,
            preset.sampler,
        )

    @property
    def aware_steps(self) -> set[int]:
        """The numbers of the 3D-aware steps, from 0, none so late that views stay as soft as splats."""
        last = max(self.steps - 1 - _SHARPENING, 0)
        return {min(round(fraction * self.steps), last) for fraction in self.three_d_aware}


@torch.no_grad()
def denoise(
    model: ViewsModel,
    conditioning: Conditioning,  # of B samples
    noise: Tensor,  # [B, V, F, C, h, w]
    cameras: Tensor,  # [V, 4, 4] camera-to-world
    sampling: Sampling,
    *,
    first_frame: Tensor | None = None,  # [B, V, C, h, w]
    progress: Progress | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:  # [B, V, F, C, h, w]
    """Latents of all frames of all views.

    In a 3D-aware step, the unconditional and the conditional estimates of the clean latents each become the
    views of one object per frame, and guidance is applied to these.

    Args:
        noise: decides everything else; its size is that of the result.
        first_frame: clean latents that are the first frame and stay so, for networks that animate it.
        progress: reports every step; asked after every network evaluation whether to go on.
        on_step: called with the number of steps done and the estimate of the clean latents; may raise.

    Raises:
        DioramaError: E_REQUEST for sizes that the network cannot make; E_CANCELLED.

    Source: VideoMV (arXiv 2403.12010), section 3.3 and algorithm 1; Vivid-ZOO (2406.08659); the first frame,
    Animate3D (2407.11398).
    """
    progress = progress or Progress()
    check_sizes(model, noise, cameras)

    # 1. The schedule: which steps are 3D-aware, and which of them DeepCache shortens.
    scheduler = scheduler_of(sampling.sampler, model.settings.schedule, sampling.steps)
    aware = sampling.aware_steps
    evaluations = 1 if model.plan.batch_cfg else 2
    cache = DeepCache(sampling.cache, sampling.steps, aware, evaluations) if sampling.cache else None

    # 2. The noisiest latents.
    cameras = cameras.to(noise)
    latents = _with_first_frame(first_frame, noise)

    for i, t in enumerate(scheduler.timesteps.tolist()):
        # 3. Predict the noise (or v) of the guidance batch.
        batch = torch.cat([latents, latents])
        features = cache.begin(i) if cache else ()
        prediction = predict(model, batch, t, conditioning, cameras, progress, features)

        # 4. Apply classifier-free guidance: in a 3D-aware step, to clean latents that show one object.
        if i in aware:
            x0 = schedules.x0_from_prediction(scheduler, prediction, t, batch)
            x0 = apply_cfg(one_object_per_frame(model, x0, cameras, progress), sampling.guidance)
            prediction = schedules.prediction_from_x0(scheduler, x0, t, latents)
            begin_anew(scheduler)
        else:
            prediction = apply_cfg(prediction, sampling.guidance)

        # 5. Step from x_t to x_(t-1).
        noisy, (latents, *_) = latents, scheduler.step(prediction, t, latents, return_dict=False)
        latents = _with_first_frame(first_frame, latents)

        # 6. Report.
        progress.step(i + 1, sampling.steps)
        if on_step:
            x0 = schedules.x0_from_prediction(scheduler, prediction, t, noisy)
            on_step(i + 1, _with_first_frame(first_frame, x0))
    return latents


def predict(
    model: ViewsModel,
    batch: Tensor,  # [2 * B, V, F, C, h, w] noisy latents
    timestep: int,
    conditioning: Conditioning,  # of B samples
    cameras: Tensor,  # [V, 4, 4] camera-to-world
    progress: Progress,
    features: Sequence[DeepFeatures] = (),
) -> Tensor:  # [2 * B, V, F, C, h, w]
    """The network's prediction for the guidance batch, at once or in halves as the plan has it.

    Args:
        progress: asked after every evaluation whether to go on.
        features: DeepCache's, one for every evaluation.

    Raises:
        DioramaError: E_CANCELLED.
    """
    image = conditioning.image
    parts = list(split_cfg_batch(model.plan.batch_cfg, batch, conditioning.context, *image.values()))
    predictions = []
    for (latents, context, *images), deep in zip(parts, features or len(parts) * (None,), strict=True):
        named = dict(zip(image, images, strict=True))
        predictions.append(model.predict(latents, timestep, context, cameras, named, deep))
        progress.raise_if_cancelled()
    return torch.cat(predictions)


def one_object_per_frame(
    model: ViewsModel,
    x0: Tensor,  # [B, V, F, C, h, w]
    cameras: Tensor,  # [V, 4, 4]
    progress: Progress,
) -> Tensor:  # [B, V, F, C, h, w]
    """Clean latents in which the views of every frame show one set of Gaussians: the 3D-aware step."""
    batch, views, frames = x0.shape[:3]
    samples = x0.permute(0, 2, 3, 1, 4, 5).flatten(0, 1)  # [B * F, C, V, h, w]
    evaluations = 1 if model.plan.batch_cfg else 2
    refined = []
    for some in samples.split(min(OBJECTS_AT_ONCE, len(samples) // evaluations)):
        step = three_d_aware_step(
            some,
            cameras,
            decode=model.decode,
            encode=model.encode,
            reconstructor=model.reconstructor,
            input_views=input_views(model, views),
            rendering=model.settings.rendering,
        )
        refined.append(step.latents.float())
        progress.raise_if_cancelled()
    return torch.cat(refined).unflatten(0, (batch, frames)).permute(0, 3, 1, 2, 4, 5)


def check_sizes(model: ViewsModel, noise: Tensor, cameras: Tensor) -> None:
    """Refuses noise, [B, V, F, C, h, w], that the network cannot denoise.

    Raises:
        DioramaError: E_REQUEST.
    """
    views, frames = noise.shape[1:3]
    if isinstance(model.unet, MultiViewMotionUNet):
        most = model.unet.config.motion_max_frames if model.unet.config.motion else frames
    else:
        most = 1
    if frames > most:
        raise DioramaError(
            "E_REQUEST",
            f"{frames} frames; this model's motion has at most {most}",
            f"Ask for {most} frames or fewer.",
        )
    if len(cameras) != views:
        raise DioramaError("E_REQUEST", f"{len(cameras)} cameras for {views} views; one for each is needed")


def _with_first_frame(first_frame: Tensor | None, latents: Tensor) -> Tensor:  # [B, V, F, C, h, w]
    """Latents whose first frame, if one is given, is that one."""
    if first_frame is None:
        return latents
    return torch.cat([first_frame.unsqueeze(2).to(latents), latents[:, :, 1:]], dim=2)
