"""Distills an object out of a model of views: moves Gaussians until the model finds nothing to correct.

Score distillation sampling (DreamFusion, arXiv 2209.14988, equation 3) with a model that sees all views at
once, in the form of MVDream (arXiv 2308.16512, section 3.3): as a distance from the clean views that the
model would make of noisy ones, at less and less noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..cameras import turned
from ..gaussians import fitting
from ..models.videomv_unet import VideoMVImageUNet
from ..seeds import generator_for
from ..shared.ply import GaussianCloud
from . import schedules
from .conditioning import Conditioning
from .guidance import guide
from .model import ViewsModel

STEPS = 200
RESCALE = 0.5  # how much of the contrast that guidance adds is taken back (MVDream, section 3.3)
MOST_NOISE, LEAST_NOISE = 0.98, 0.02  # of the schedule, at the first and at the last step
FAINTEST = 0.01  # splats of less opacity are left out in the end: half of all, and nobody sees it (55 dB)
_COMPOSITING: fitting.Compositing = "linear"
_PACE = 2.0  # of Adam: fewer steps than a fit to pictures would have, and farther to go
_FOG = 0.6  # price of what splats cover, so that nothing stays that the model sees no use for
_GAUSSIANS_PER_PIXEL = 0.5  # of one view
_BALL = 0.75  # radius of the first guess, of what the cameras see


def distill(
    model: ViewsModel,
    told: Conditioning,
    cameras: Tensor,  # [V, 4, 4] camera-to-world
    steps: int,
    guidance: float,
    seed: int,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> GaussianCloud:
    """The object that the model sees when it is told of it, from noise and a ball of grey Gaussians.

    Args:
        on_step: called with the number of steps done and the last pictures [V, 3, H, W]; may raise.
    """
    with torch.inference_mode(False), torch.enable_grad():
        settings, device = model.settings, model.device
        scheduler = DDIMScheduler(**settings.schedule)
        generator = generator_for(seed, "distillation")
        cameras = cameras.clone()
        ball = _ball(model, cameras, generator)
        leaves = fitting.leaves_of(ball, device)
        size = float(ball.scales[0, 0])
        optimizer, decay = fitting.optimizer_of(leaves, size, steps, _PACE)
        for i in range(steps):
            seen_from = _cameras_of_step(model, cameras, generator).to(device)
            pictures = _photograph(model, leaves, seen_from)
            latents = encode(model, pictures).float().transpose(0, 1)[None]  # [1, C, V, h, w]
            noise = torch.randn(latents.shape, generator=generator).to(device)
            part = MOST_NOISE + (LEAST_NOISE - MOST_NOISE) * i / max(steps - 1, 1)
            timestep = int(part * scheduler.config["num_train_timesteps"])
            wanted = clean_views(model, scheduler, told, latents, noise, timestep, seen_from, guidance)
            loss = distance(latents, wanted) + _FOG * _covered(leaves) / size**2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
            if on_step:
                on_step(i + 1, pictures.detach())
        opacities = leaves["logits"].detach().sigmoid()
        kept = opacities >= opacities.max().clamp_max(FAINTEST)
        return fitting.cloud_of({name: leaf[kept] for name, leaf in leaves.items()})


def encode(model: ViewsModel, pictures: Tensor) -> Tensor:  # [V, 3, H, W] -> [V, C, h, w]
    """Latents that know their pictures, of as many pictures at once as planned.

    What the encoder computes on the way is 381 MiB for a picture of 256 px in half precision. So it is not
    kept for all pictures until the gradient needs it, but computed again then, for those of one go at a time.
    """
    if not model.plan.images_at_once:
        return model.encode(pictures)
    parts = pictures.split(model.plan.images_at_once)
    return torch.cat([checkpoint(model.encode, some, use_reentrant=False) for some in parts])


def distance(latents: Tensor, wanted: Tensor) -> Tensor:
    """Half the squared distance: its gradient by the latents is what the model would correct."""
    return 0.5 * (latents - wanted.detach()).square().sum()


@torch.no_grad()
def clean_views(
    model: ViewsModel,
    scheduler: DDIMScheduler,
    told: Conditioning,
    latents: Tensor,  # [1, C, V, h, w] of the pictures
    noise: Tensor,  # [1, C, V, h, w]
    timestep: int,
    cameras: Tensor,  # [V, 4, 4]
    guidance: float,
    rescale: float = RESCALE,
) -> Tensor:  # [1, C, V, h, w]
    """What the model takes for the clean latents when it sees these with noise.

    Without `rescale`, latents minus these are sigma / alpha times (predicted noise - noise): the gradient of
    score distillation, with that for its weight.
    """
    noisy = scheduler.add_noise(latents, noise, torch.tensor([timestep]))  # type: ignore[arg-type]
    both = noisy.repeat(2, 1, 1, 1, 1)
    prediction = model.predict(both, timestep, told.context, cameras, told.image)
    x0 = schedules.x0_from_prediction(scheduler, prediction, timestep, both)
    guided = guide(x0, guidance)
    factor = x0.chunk(2)[1].std() / guided.std()
    return guided * (rescale * factor + 1 - rescale)


def views_of(model: ViewsModel, cloud: GaussianCloud, cameras: Tensor) -> Tensor:  # [V, 4, H, W]
    """What the model's cameras see of the object: sRGB, straight alpha."""
    size, fov_deg = model.settings.size_px, model.settings.fov_deg
    return fitting.cut_out(fitting.leaves_of(cloud), cameras, fov_deg, size, size, _COMPOSITING)


def _covered(leaves: dict[str, Tensor]) -> Tensor:
    """What the splats would cover side by side, by their opacity; in square metres, but for a factor."""
    area = (leaves["log_scales"].sum(-1) * (2 / 3)).exp()
    return (leaves["logits"].sigmoid() * area).sum()


def _photograph(model: ViewsModel, leaves: dict[str, Tensor], cameras: Tensor) -> Tensor:  # [V, 3, H, W]
    """Pictures before the grey that the model knows objects on."""
    settings = model.settings
    grey = cameras.new_full((len(cameras), 3), settings.rendering.background)
    size = settings.size_px
    pictures = fitting.render(leaves, cameras, settings.fov_deg, size, size, grey, _COMPOSITING)
    return pictures.movedim(-1, 1)


def _cameras_of_step(model: ViewsModel, cameras: Tensor, generator: torch.Generator) -> Tensor:
    """The orbit, every other time turned by half a step: as in training, and twice the views are seen.

    A picture that the model is told shows the object from the first camera, so there nothing is turned.
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
