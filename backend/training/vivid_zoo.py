"""Trains Vivid-ZOO's alignment on clips of moving objects: `python -m backend train vivid-zoo`.

Both base models stay as they are; what comes out is alignment.safetensors, the layers between them, which
`python -m backend models convert vivid-zoo` puts in place.

Source: Vivid-ZOO (arXiv 2406.08659), section 3.3 and table II.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.alignment import save_alignment
from ..models.multiview_motion_unet import MultiViewMotionUNet
from ..pipelines.conditioning import condition_on_text, with_suffix
from ..pipelines.denoise import Sampling, denoise
from ..pipelines.latents import latent_size
from ..pipelines.model import ViewsModel
from ..pipelines.settings import ModelSettings
from ..shared.protocol import DioramaError
from . import full_size, objaverse
from .denoiser import CAPTION_DROPOUT
from .image_grid import write_image_grid
from .loop import Batch, TrainingPlan
from .objectives import MotionObjective
from .text import tokens_of

STRIDE = 3  # frames of the animation from one image of a sample to the next
BATCH = 16
FRAMES_SHOWN, STEPS_SHOWN = 4, 20

# Weight decay and clipping are of AnimateDiff's recipe, on whose code it was built; the averaging is ours.
PLAN = TrainingPlan(
    100_000, 1e-4, constant=True, betas=(0.9, 0.999), ema_decay=0.9999, keep_every=1000, weight_decay=0.01
)


@dataclass(frozen=True)
class Clips:
    """The data set that batches are drawn from: plain data, which worker processes load without networks."""

    items: tuple[objaverse.Rendered, ...]
    tokens: Tensor  # [N, L] of their captions
    no_tokens: Tensor  # [L] of no caption
    settings: ModelSettings
    latent: tuple[int, int, int]


def main(argv: list[str]) -> None:
    """Trains the alignment and writes its file."""
    parser = full_size.parser_of("train vivid-zoo", __doc__)
    args = parser.parse_args(argv)
    run = full_size.run_of(args, "python -m backend train vivid-zoo", BATCH, PLAN)
    model = full_size.load_model(run)
    network: Any = model.unet
    if not isinstance(network, MultiViewMotionUNet) or not (network.config.motion and network.config.align):
        raise DioramaError(
            "E_REQUEST", f"{run.model} holds no multi-view network with motion and alignment layers"
        )
    clips, data = read_clips(run.data, model)
    objective = MotionObjective(model)
    full_size.carry_out(
        run,
        objective,
        functools.partial(clips_batch, clips, run.at_once),
        functools.partial(show_video, objective, clips),
        data,
        lambda folder: save_alignment(network, folder / "alignment.safetensors"),
    )


def read_clips(root: Path, model: ViewsModel) -> tuple[Clips, dict[str, Any]]:
    """The clips under a root that a sample can be taken from, and what to write down about them.

    Raises:
        DioramaError: E_DATA if there is none, with what is wrong with the first ones.
    """
    settings = model.settings
    try:
        found = objaverse.scan(root, "clip", views=None)
    except DioramaError as error:
        if not root.is_dir():
            raise
        raise DioramaError(
            "E_DATA",
            f"{error.message}: the alignment learns from moving objects, not from stills",
            "Render animated files with render_dataset.py --mode vividzoo.",
            error.detail,
        ) from error

    def unfit(item: objaverse.Rendered) -> str | None:
        views, frames = len(item.images), len(item.images[0])
        if views % settings.num_views:
            return f"it has {views} views, of which {settings.num_views} cannot be evenly spread"
        if STRIDE % item.step:
            return f"it has every {item.step}th frame; every {STRIDE}rd, or every one, is needed"
        if frames < _span(item, settings):
            return f"it has {frames} frames, and {_span(item, settings)} are needed"
        return None if item.caption else "it has no caption"

    found = found.without(unfit)
    if full_size.is_first():
        print(found.report(), flush=True)
    captions = [with_suffix(item.caption, settings.prompt_suffix) for item in found.objects]
    tokenizer: Any = model.tokenizer
    clips = Clips(
        found.objects,
        tokens_of(tokenizer, captions),
        tokens_of(tokenizer, [""])[0],
        settings,
        latent_size(model.autoencoder.config, settings.size_px),
    )
    return clips, {"folder": str(root.resolve()), "clips": len(found.objects)}


def clips_batch(clips: Clips, size: int, generator: torch.Generator) -> Batch:
    """Random clips: evenly spread views from a random one on, every third frame from a random one on."""

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    settings, rows = clips.settings, []
    for _ in range(size):
        number = below(len(clips.items))
        item = clips.items[number]
        views, stride = len(item.images), STRIDE // item.step
        first, begin = below(views), below(len(item.images[0]) - _span(item, settings) + 1)
        seen = [(first + i * views // settings.num_views) % views for i in range(settings.num_views)]
        frames = [begin + stride * i for i in range(settings.num_frames)]
        clip = objaverse.load(item, settings.size_px, seen, frames)
        dropped = float(torch.rand((), generator=generator)) < CAPTION_DROPOUT
        size_of_noise = (settings.num_views, settings.num_frames, *clips.latent)
        rows.append(
            {
                "rgba": clip.rgba,
                "background": torch.tensor(item.background),
                "tokens": clips.no_tokens if dropped else clips.tokens[number],
                "cameras": clip.cameras,
                "noise": torch.randn(size_of_noise, generator=generator),
                "timesteps": torch.tensor(below(1000)),
            }
        )
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def show_video(objective: MotionObjective, clips: Clips, path: Path) -> float:
    """Writes a generated video, a view a row; returns the loss of one sample over all strengths of noise."""
    model, settings = objective.model, clips.settings
    item = clips.items[0]
    order = range(0, len(item.cameras), len(item.cameras) // settings.num_views)
    shape = (1, settings.num_views, settings.num_frames, *clips.latent)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16):
        latents = denoise(
            model,
            condition_on_text(model, [item.caption]),
            noise,
            item.cameras[list(order)].to(model.device),
            Sampling(min(STEPS_SHOWN, settings.steps), settings.guidance),
        )
        video = model.decode_frames(latents[0])  # [V, F, 3, H, W]
    shown = [i * settings.num_frames // FRAMES_SHOWN for i in range(FRAMES_SHOWN)]
    write_image_grid(path, video[:, shown])
    batch = clips_batch(clips, 1, torch.Generator().manual_seed(1))
    given = {name: value.to(model.device) for name, value in batch.items()}
    losses = []
    with torch.autocast(model.device.type, torch.bfloat16):
        for timestep in range(100, 1000, 200):
            given["timesteps"] = torch.full_like(given["timesteps"], timestep)
            losses.append(objective(**given))
    return torch.stack(losses).mean().item()


def _span(item: objaverse.Rendered, settings: ModelSettings) -> int:
    """How many images of a clip a sample reaches over."""
    return STRIDE // item.step * (settings.num_frames - 1) + 1
