"""Batches of the small world's clips, for the moving starter's denoiser and its judge."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..gaussians.color import over
from ..pipelines.schedules import mixed_noise
from ..training.denoiser import CAPTION_DROPOUT
from ..training.image_grid import write_image_grid
from ..training.loop import Batch
from ..training.multiview_motion import MotionStage
from .clips import NUM_VIEWS, WorldClips
from .dataset import GREY
from .motion_judge import MotionClassifier
from .objects.encoded import Encoded
from .objects.pictures import VIEWS

STILL_SHIFT, SHIFT = 2.0, 3.0  # of the timesteps that images and clips are noised by
SHARED_NOISE = 0.8  # of its variance, between the frames of a clip


def batch_of(
    latents: Tensor,  # [N, V, F, C, h, w] of every clip
    cameras: Tensor,  # [V, 4, 4]
    tokens: Tensor,  # [N, L] of the captions
    no_tokens: Tensor,  # [L] of no caption
    stage: MotionStage,
    generator: torch.Generator,
    size: int,
) -> Batch:
    """Random clips: all sides or one, all frames or one."""
    count, views, frames = latents.shape[:3]

    def drawn(limit: int, all_of_them: bool) -> Tensor:  # [size, limit or 1]
        if all_of_them:
            return torch.arange(limit).expand(size, -1)
        return torch.randint(limit, (size, 1), generator=generator)

    clips = torch.randint(count, (size,), generator=generator)
    seen, shown = drawn(views, stage.multiview), drawn(frames, stage.motion)
    chosen = latents[clips[:, None, None], seen[:, :, None], shown[:, None]].float()
    dropped = torch.rand(size, 1, generator=generator) < CAPTION_DROPOUT
    return {
        "latents": chosen,
        "tokens": torch.where(dropped, no_tokens, tokens[clips]),
        "cameras": cameras[seen],
        "noise": mixed_noise(
            torch.randn(chosen[:, :, :1].shape, generator=generator),
            torch.randn(chosen.shape, generator=generator),
            SHARED_NOISE,
        ),
        "timesteps": _timesteps(size, stage.motion, generator),
    }


def stills(encoded: Encoded) -> tuple[Tensor, list[str]]:
    """Named objects that stand still, as clips of one frame [N, V, 1, C, h, w], mirrored ones too."""
    apart = VIEWS // NUM_VIEWS
    around = torch.arange(0, VIEWS, apart)
    latents, captions = [], []
    for item, first in zip(encoded.world.items, encoded.first.tolist(), strict=False):
        if item.caption:
            latents += [encoded.latents[first, around], encoded.latents[first + 1, -around % VIEWS]]
            captions += 2 * [item.caption]
    return torch.stack(latents).unsqueeze(2), captions


def shuffled(one: Batch, other: Batch, generator: torch.Generator) -> Batch:
    """Both batches as one, in any order."""
    both = {name: torch.cat([one[name], other[name]]) for name in one}
    order = torch.randperm(len(both["tokens"]), generator=generator)
    return {name: values[order] for name, values in both.items()}


def _timesteps(size: int, moving: bool, generator: torch.Generator) -> Tensor:  # [size] of 0..999
    """Random strengths of noise. How frames belong together is decided where it is strong.

    Source: the shift of timesteps of Stable Diffusion 3 (arXiv 2403.03206, equation 23).
    """
    uniform = torch.rand(size, generator=generator)
    shift = SHIFT if moving else STILL_SHIFT
    shifted = 1000 * shift * uniform / (1 + (shift - 1) * uniform)
    return shifted.long().clamp_max(999)  # rounding can reach 1000


class MotionClassifierObjective(nn.Module):
    """The motion's name is right, also in clips that are a little soft or noisy."""

    def __init__(self, classifier: MotionClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, clips: Tensor, motion: Tensor) -> Tensor:
        return F.cross_entropy(self.classifier(clips).float(), motion)


def classifier_batch_of(
    world: WorldClips, judge: MotionClassifier, generator: torch.Generator, size: int
) -> Batch:
    """Random clips of one view, all of them noisy."""
    count, views = world.rgba.shape[:2]
    chosen = torch.randint(count, (size,), generator=generator)
    seen = torch.randint(views, (size,), generator=generator)
    clips = over(world.rgba[chosen, seen].float() / 255, GREY)
    strength = 0.05 * torch.rand((size, 1, 1, 1, 1), generator=generator)
    clips = clips + strength * torch.randn(clips.shape, generator=generator)
    names = judge.config.motions
    return {"clips": clips, "motion": torch.tensor([names.index(world.motions[i]) for i in chosen])}


def show_classifier(judge: MotionClassifier, world: WorldClips, path: Path) -> float:
    """Writes clips that it got wrong; returns the part of single views whose motion it names right."""
    right, wrong = 0, []
    for rgba, motion in zip(world.rgba, world.motions, strict=True):
        clips = over(rgba.float() / 255, GREY)  # [V, F, 3, H, W]
        for clip, name in zip(clips, judge.name(clips[:, None]), strict=True):
            right += name == motion
            if name != motion:
                wrong.append(clip)
    if wrong:
        write_image_grid(path, torch.stack(wrong[:12]))
    return right / (world.rgba.shape[0] * world.rgba.shape[1])
