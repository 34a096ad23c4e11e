"""Prompt to views to splats: denoises all views at once, and makes them agree on one object on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from ..cameras import orbit
from ..models.lgm import Gaussians
from ..seeds import generator_for
from ..shared.ply import SH_C0, GaussianCloud
from ..shared.protocol import DioramaError
from . import schedules
from .fast import FastDenoising, FastSteps
from .guidance import branches, guide
from .model import ViewsModel
from .three_d_aware import in_world, reconstruct, render, three_d_aware_step

FAINTEST = 0.005  # splats of less opacity are left out, as the reconstructor's authors do
# Cameras that differ so little from the model's own are as good as these. Source: the starter, whose views
# agree less at 25° instead of 15° and not at all at 45°, and show objects as large at any radius.
USUAL_DEG = 5.0
USUAL_RADIUS = 0.1  # as a part of the model's own
GREY_DISTANCE = 0.12  # a pixel of a view that differs so much from the background is all object


@dataclass(frozen=True)
class Conditioning:
    """What the denoiser is told, for both branches of the guidance: first the one without, then the one with.

    Attributes:
        context: text tokens.
        image: further keyword arguments of an image-conditioned denoiser.
    """

    context: Tensor  # [2 * B, L, D]
    image: dict[str, Tensor] = field(default_factory=dict)  # [2 * B, ...]


def told_by_text(model: ViewsModel, prompts: list[str]) -> Conditioning:
    """Prompts, against the model's negative prompt."""
    settings = model.settings
    suffixed = [with_suffix(prompt, settings.prompt_suffix) for prompt in prompts]
    return Conditioning(model.encode_prompts([settings.negative_prompt] * len(prompts) + suffixed))


def told_by_image(model: ViewsModel, picture: Tensor) -> Conditioning:
    """A picture of the object, [4, H, W] sRGB with straight alpha, against none.

    The model sees it on white. Its latents are given to both branches, its meaning to one.

    Source: VideoMV (arXiv 2403.12010), the released image-to-view model's inference.
    """
    if model.image_encoder is None:
        raise DioramaError("E_REQUEST", "this model is told what to make by text, not by a picture")
    white = picture[:3] * picture[3:] + (1 - picture[3:])
    latents = model.encode(white[None].to(model.device))
    meaning = model.encode_image(white[None].to(model.device))  # [1, 1, D]
    return Conditioning(
        model.encode_prompts([model.settings.negative_prompt, ""]),
        {
            "image_latents": latents.repeat(2, 1, 1, 1),
            "image_embeddings": torch.cat([torch.zeros_like(meaning), meaning]),
        },
    )


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


def views_to_gaussians(model: ViewsModel, images: Tensor, cameras: Tensor) -> Gaussians:
    """The reconstructor's Gaussians of views [B, V, 3, H, W], in the world of their cameras [V, 4, 4]."""
    seen = input_views(model, len(cameras))
    images = images.to(model.device)
    cameras = cameras.to(images)
    local = reconstruct(images[:, list(seen)], cameras, seen, model.reconstructor, model.settings.fov_deg)
    return in_world(local, cameras)


def cloud_of(gaussians: Gaussians) -> GaussianCloud:
    """One object's Gaussians, without those that nobody would see, as a cloud for files and fitting."""
    kept = gaussians.opacities[0] > FAINTEST
    means, opacities, scales, quats, rgb = (field[0][kept].cpu().numpy() for field in gaussians)
    return GaussianCloud(means, quats, scales, opacities, sh=((rgb - 0.5) / SH_C0)[:, None])


def cut_out(
    model: ViewsModel,
    images: Tensor,  # [V, 3, H, W] sRGB
    gaussians: Gaussians,
    cameras: Tensor,  # [V, 4, 4]
) -> Tensor:  # [V, 4, H, W], straight alpha
    """The views without the grey that they were generated on.

    Opaque is what the splats say is inside; near their edge, which is softer than the views', it is what
    differs from the grey.
    """
    grey = model.settings.rendering.background
    _, covered = render(gaussians, cameras.to(images), model.settings.rendering)
    covered = torch.nn.functional.interpolate(covered[0].to(images), images.shape[-2:], mode="area")
    differs = (images - grey).abs().amax(1, keepdim=True) / GREY_DISTANCE
    inside = (covered - 0.8) / 0.15
    alpha = torch.maximum(differs.clamp(0, 1) * (covered > 0.1), inside.clamp(0, 1))
    color = grey + (images - grey) / alpha.clamp_min(1 / 255)
    return torch.cat([color.clamp(0, 1), alpha], dim=1)


def input_views(model: ViewsModel, num_views: int) -> tuple[int, ...]:
    """Which of the views the reconstructor sees: evenly spaced, from the first."""
    count = min(model.settings.input_views, num_views)
    return tuple(i * num_views // count for i in range(count))


def starting_noise(model: ViewsModel, num_views: int, seed: int, frame: int = 0) -> Tensor:  # [1, 4, V, h, w]
    """Noise that depends on the seed and the frame alone, not on the device."""
    factor = 2 ** (len(model.autoencoder.config["block_out_channels"]) - 1)
    side = model.settings.size_px // factor
    channels = model.unet.config["in_channels"]
    shape = (1, channels, num_views, side, side)
    return torch.randn(shape, generator=generator_for(seed, f"views {frame}" if frame else "views")).to(
        model.device
    )


def view_cameras(
    model: ViewsModel, num_views: int, elevation_deg: float | None = None, radius: float | None = None
) -> Tensor:  # [V, 4, 4]
    """The orbit with that many views; elevation and radius are the model's own where none are given."""
    settings = model.settings
    return orbit(
        num_views,
        settings.elevation_deg if elevation_deg is None else elevation_deg,
        settings.radius if radius is None else radius,
    )


def unusual_orbit(model: ViewsModel, elevation_deg: float | None, radius: float | None) -> str:
    """What to expect of cameras unlike those the model was trained with, in words; else empty."""
    settings = model.settings
    unusual = []
    if elevation_deg is not None and abs(elevation_deg - settings.elevation_deg) > USUAL_DEG:
        unusual.append(f"elevation {elevation_deg:g}° (trained: {settings.elevation_deg:g}°)")
    if radius is not None and abs(radius / settings.radius - 1) > USUAL_RADIUS:
        unusual.append(f"radius {radius:g} m (trained: {settings.radius:g} m)")
    if not unusual:
        return ""
    return (
        f"The cameras are unlike those that the model was trained with: {' and '.join(unusual)}. "
        "Expect views that disagree, and splats that are blurred, out of shape or of another size."
    )


def with_suffix(prompt: str, suffix: str) -> str:
    """A prompt with the words that the model was trained to expect after it."""
    return prompt if suffix.strip(" ,") in prompt else prompt + suffix
