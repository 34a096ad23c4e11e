"""Score distillation: optimises Gaussians until a multi-view model finds nothing to correct in their renders.

Score distillation sampling (DreamFusion, arXiv 2209.14988, equation 3) with a model that sees all views at
once, in the form of MVDream (arXiv 2308.16512, section 3.3): as a distance from the clean views that the
model would make of noisy ones, at less and less noise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kernels import drawing_device

from ..cameras import turned
from ..gaussians import fitting
from ..models.videomv_unet import VideoMVImageUNet
from ..seeds import generator_for
from ..shared.ply import GaussianCloud
from ..shared.progress import Progress
from ..shared.request import GenerationRequest
from ..shared.sequence_file import Blending
from . import schedules
from .conditioning import Conditioning, condition
from .denoise import Sampling, predict
from .guidance import apply_cfg
from .model import ViewsModel
from .preview import Show

STEPS = 200
RESCALE = 0.5  # how much of the contrast that guidance adds is taken back (MVDream, section 3.3)
MOST_NOISE, LEAST_NOISE = 0.98, 0.02  # of the schedule, at the first and at the last step
FAINTEST = 0.01  # splats of less opacity are left out in the end: half of all, and nobody sees it (55 dB)
_BLENDING: Blending = "linear"
_PACE = 2.0  # of Adam: fewer steps than a fit to images would have, and farther to go
_FOG = 0.6  # price of what splats cover, so that nothing stays that the model sees no use for
_GAUSSIANS_PER_PIXEL = 0.5  # of one view
_BALL = 0.75  # radius of the first guess, of what the cameras see


def distilled_splats(
    model: ViewsModel,
    request: GenerationRequest,
    image: np.ndarray | None,  # [H, W, 4] of the object, for image-conditioned models
    cameras: Tensor,  # [V, 4, 4]
    progress: Progress,
    show: Show,
) -> tuple[list[GaussianCloud], Tensor]:  # one cloud, [V, 1, 4, H, W]
    """Splats distilled out of the model, and their renders from its cameras, with straight alpha.

    Args:
        show: called after every step.

    Raises:
        DioramaError: E_CANCELLED.
    """
    conditioning = condition(model, request.prompt, image)
    sampling = dataclasses.replace(Sampling.of(request, model.settings), steps=request.steps or STEPS)
    progress.stage("Distilling")
    cloud = distill(
        model,
        conditioning,
        cameras,
        sampling,
        request.seed,
        progress,
        lambda i, images: show(
            i, sampling.steps, len(images), lambda views: images[:views].clamp(0, 1)[:, None]
        ),
    )
    return [cloud], views_of(model, cloud, cameras)[:, None]


def distill(
    model: ViewsModel,
    conditioning: Conditioning,
    cameras: Tensor,  # [V, 4, 4] camera-to-world
    sampling: Sampling,
    seed: int,
    progress: Progress | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> GaussianCloud:
    """The object that the model is conditioned on, optimised from a ball of grey Gaussians.

    Args:
        progress: reports every step; asked after every network evaluation whether to go on.
        on_step: called with the number of steps done and the last renders [V, 3, H, W]; may raise.

    Raises:
        DioramaError: E_CANCELLED.
    """
    progress, steps = progress or Progress(), sampling.steps
    with torch.inference_mode(False), torch.enable_grad():
        settings, device = model.settings, model.device
        drawn_on = drawing_device(device)
        scheduler = DDIMScheduler(**settings.schedule)
        generator = generator_for(seed, "distillation")
        cameras = cameras.clone()
        ball = _ball(model, cameras, generator)
        splats = fitting.SplatParameters.of(ball, drawn_on)
        size = float(ball.scales[0, 0])
        optimizer, decay = fitting.optimizer_of(splats, size, steps, _PACE)
        for i in range(steps):
            # 1. Render the splats from the orbit, turned now and then, and encode the renders.
            seen_from = _cameras_of_step(model, cameras, generator).to(drawn_on)
            images = _render(model, splats, seen_from)
            latents = encode(model, images.to(device)).float()[None, :, None]  # [1, V, 1, C, h, w]

            # 2. Noise them, less in every step, and let the model denoise them.
            noise = torch.randn(
                latents.squeeze(2).transpose(1, 2).shape, generator=generator
            )  # [1, C, V, h, w]
            noise = noise.transpose(1, 2).unsqueeze(2).to(device)
            part = MOST_NOISE + (LEAST_NOISE - MOST_NOISE) * i / max(steps - 1, 1)
            timestep = int(part * scheduler.config["num_train_timesteps"])
            clean = clean_views(
                model,
                scheduler,
                conditioning,
                latents,
                noise,
                timestep,
                seen_from.to(device),
                sampling.guidance,
                progress,
            )

            # 3. Move the splats towards what the model makes of them.
            loss = distance(latents, clean).to(drawn_on) + _FOG * _covered(splats) / size**2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()

            # 4. Report.
            progress.step(i + 1, steps)
            if on_step:
                on_step(i + 1, images.detach())
        opacities = splats.logits.detach().sigmoid()
        kept = opacities >= opacities.max().clamp_max(FAINTEST)
        return splats.map(lambda values: values[kept]).to_cloud()


def encode(model: ViewsModel, images: Tensor) -> Tensor:  # [V, 3, H, W] -> [V, C, h, w]
    """Latents with gradients to their images, encoded as many at once as planned.

    The encoder's activations are 381 MiB for an image of 256 px in half precision. Gradient checkpointing
    computes them again in the backward pass, one batch at a time.
    """
    if not model.plan.images_at_once:
        return model.encode(images)
    parts = images.split(model.plan.images_at_once)
    return torch.cat([checkpoint(model.encode, some, use_reentrant=False) for some in parts])


def distance(latents: Tensor, clean: Tensor) -> Tensor:
    """Half the squared distance: its gradient by the latents is what the model would correct."""
    return 0.5 * (latents - clean.detach()).square().sum()


@torch.no_grad()
def clean_views(
    model: ViewsModel,
    scheduler: DDIMScheduler,
    conditioning: Conditioning,
    latents: Tensor,  # [1, V, 1, C, h, w] of the renders
    noise: Tensor,  # [1, V, 1, C, h, w]
    timestep: int,
    cameras: Tensor,  # [V, 4, 4]
    guidance: float,
    progress: Progress,
    rescale: float = RESCALE,
) -> Tensor:  # [1, V, 1, C, h, w]
    """The model's estimate of the clean latents, from these with noise added.

    Without `rescale`, latents minus these are sigma / alpha times (predicted noise - noise): the gradient of
    score distillation, with that for its weight.
    """
    noisy = scheduler.add_noise(latents, noise, torch.tensor([timestep]))  # type: ignore[arg-type]
    batch = torch.cat([noisy, noisy])
    prediction = predict(model, batch, timestep, conditioning, cameras, progress)
    x0 = schedules.x0_from_prediction(scheduler, prediction, timestep, batch)
    guided = apply_cfg(x0, guidance)
    factor = x0.chunk(2)[1].std() / guided.std()
    return guided * (rescale * factor + 1 - rescale)


def views_of(model: ViewsModel, cloud: GaussianCloud, cameras: Tensor) -> Tensor:  # [V, 4, H, W]
    """Renders of the object from the model's cameras: sRGB, straight alpha."""
    size, fov_deg = model.settings.size_px, model.settings.fov_deg
    return fitting.render_rgba(fitting.SplatParameters.of(cloud), cameras, fov_deg, size, size, _BLENDING)


def _covered(splats: fitting.SplatParameters) -> Tensor:
    """The area of all splats side by side, weighted by opacity; in square metres, up to a factor."""
    area = (splats.log_scales.sum(-1) * (2 / 3)).exp()
    return (splats.logits.sigmoid() * area).sum()


def _render(model: ViewsModel, splats: fitting.SplatParameters, cameras: Tensor) -> Tensor:  # [V, 3, H, W]
    """Images before the grey that the model knows objects on."""
    settings = model.settings
    grey = cameras.new_full((len(cameras), 3), settings.rendering.background)
    size = settings.size_px
    images = fitting.render(splats, cameras, settings.fov_deg, size, size, grey, _BLENDING)
    return images.movedim(-1, 1)


def _cameras_of_step(model: ViewsModel, cameras: Tensor, generator: torch.Generator) -> Tensor:
    """The orbit, every other time turned by half a step: as in training, and twice the views are seen.

    An image that conditions shows the object from the first camera, so there nothing is turned.
    """
    half_steps = int(torch.randint(2, (), generator=generator))
    if isinstance(model.unet, VideoMVImageUNet):
        return cameras
    return turned(cameras, half_steps * math.pi / len(cameras))


def _ball(model: ViewsModel, cameras: Tensor, generator: torch.Generator) -> GaussianCloud:
    """Where to begin: in the middle of what the cameras see."""
    settings = model.settings
    distance_m = float(cameras[:, :3, 3].norm(dim=-1).mean())
    radius = _BALL * distance_m * math.tan(math.radians(settings.fov_deg) / 2)
    count = int(_GAUSSIANS_PER_PIXEL * settings.size_px**2)
    return fitting.cloud_in_ball(count, radius, generator)
