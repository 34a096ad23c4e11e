"""Trains a network of any size that denoises moving objects from several sides, in the papers' stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPTextModel

from ..cameras import at_unit_distance
from ..models.multiview_motion_unet import MultiViewMotionUNet
from ..pipelines.schedules import mixed_noise, wanted_prediction
from ..starter.clips import WorldClips
from ..starter.dataset import over
from ..starter.motion_judge import MotionClassifier
from .denoiser import CAPTION_DROPOUT
from .image_grid import write_sheet
from .loop import Batch

SHIFT = 3.0  # of the timesteps that clips are noised by
ALONE = 0.25  # of the samples that the model of sides learns from are single images
SHARED_NOISE = 0.5  # of its variance, between the frames of a clip


@dataclass(frozen=True)
class Stage:
    """One of the things that the network learns, one after another.

    Source: MVDream (2308.16512), AnimateDiff (2307.04725) and Vivid-ZOO (2406.08659): a model of single
    images, which becomes one of several sides and goes on seeing single images too; with that frozen, motion
    modules, from clips of one side; and with both frozen, the layers between motion and sides.
    """

    sides: bool
    moving: bool

    def learns(self, parameter: str) -> bool:
        """Whether the parameter of that name is trained; all others are frozen."""
        if ".align_" in parameter:
            return self.sides and self.moving
        if "motion_modules" in parameter:
            return self.moving and not self.sides
        if "camera_embedding" in parameter:
            return self.sides and not self.moving
        return not self.moving


IMAGES, SIDES, CLIPS, ALIGNMENT = (
    Stage(False, False),
    Stage(True, False),
    Stage(False, True),
    Stage(True, True),
)


class MovingObjective(nn.Module):
    """The prediction (noise or v, as the schedule has it) is right, at every strength of noise.

    The text encoder learns with the model of single images only.

    Args:
        schedule: keyword arguments of `DDIMScheduler`.
        checkpointing: keep few activations and compute them again in the backward pass, to fit small cards.
    """

    def __init__(
        self,
        network: MultiViewMotionUNet,
        text_encoder: CLIPTextModel,
        schedule: dict[str, Any],
        stage: Stage,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.text_encoder = text_encoder
        self.scheduler = DDIMScheduler(**schedule)
        self.stage = stage
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(stage.learns(name))
        text_encoder.requires_grad_(stage == IMAGES)
        if checkpointing:
            network.enable_gradient_checkpointing()

    def forward(
        self,
        latents: Tensor,  # [B, V, F, C, h, w]
        tokens: Tensor,  # [B, L]
        cameras: Tensor,  # [B, V, 4, 4] camera-to-world
        noise: Tensor,  # [B, V, F, C, h, w]
        timesteps: Tensor,  # [B]
    ) -> Tensor:
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        # On a CPU, torch 2.13 crashes in a GroupNorm whose weights want gradients while its input does not,
        # as the first motion module's is where all before it is frozen.
        noisy.requires_grad_(self.stage == CLIPS)
        wanted = wanted_prediction(self.scheduler, latents, noise, timesteps)
        told = self.text_encoder(tokens).last_hidden_state
        views = at_unit_distance(cameras)
        alone = round(ALONE * len(latents)) if self.stage == SIDES else 0
        prediction = self._predict(
            noisy[alone:], timesteps[alone:], told[alone:], views[alone:] if self.stage.sides else None
        )
        if alone:
            count = latents.shape[1]
            each = self._predict(
                noisy[:alone].flatten(0, 1)[:, None],
                timesteps[:alone].repeat_interleave(count),
                told[:alone].repeat_interleave(count, 0),
                None,
            )
            prediction = torch.cat([each[:, 0].unflatten(0, (alone, count)), prediction])
        return (prediction.float() - wanted).square().mean()

    def _predict(self, noisy: Tensor, timesteps: Tensor, told: Tensor, cameras: Tensor | None) -> Tensor:
        prediction: Tensor = self.network(noisy, timesteps, told, cameras, motion=self.stage.moving)
        return prediction


def batch_of(
    latents: Tensor,  # [N, V, F, C, h, w] of every clip
    cameras: Tensor,  # [N, V, 4, 4]
    tokens: Tensor,  # [N, L] of the captions
    no_tokens: Tensor,  # [L] of no caption
    stage: Stage,
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
    seen, shown = drawn(views, stage.sides), drawn(frames, stage.moving)
    chosen = latents[clips[:, None, None], seen[:, :, None], shown[:, None]].float()
    dropped = torch.rand(size, 1, generator=generator) < CAPTION_DROPOUT
    return {
        "latents": chosen,
        "tokens": torch.where(dropped, no_tokens, tokens[clips]),
        "cameras": cameras[clips[:, None], seen],
        "noise": mixed_noise(
            torch.randn(chosen[:, :, :1].shape, generator=generator),
            torch.randn(chosen.shape, generator=generator),
            SHARED_NOISE,
        ),
        "timesteps": _timesteps(size, stage.moving, generator),
    }


def _timesteps(size: int, moving: bool, generator: torch.Generator) -> Tensor:  # [size] of 0..999
    """Random strengths of noise. How frames belong together is decided where it is strong.

    Source: the shift of timesteps of Stable Diffusion 3 (arXiv 2403.03206, equation 23).
    """
    uniform = torch.rand(size, generator=generator)
    shift = SHIFT if moving else 1
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
    clips = over(world.rgba[chosen, seen].float() / 255)
    strength = 0.05 * torch.rand((size, 1, 1, 1, 1), generator=generator)
    clips = clips + strength * torch.randn(clips.shape, generator=generator)
    names = judge.config.motions
    return {"clips": clips, "motion": torch.tensor([names.index(world.motions[i]) for i in chosen])}


def show_classifier(judge: MotionClassifier, world: WorldClips, path: Path) -> float:
    """Writes clips that it got wrong; returns the part of single views whose motion it names right."""
    right, wrong = 0, []
    for rgba, motion in zip(world.rgba, world.motions, strict=True):
        clips = over(rgba.float() / 255)  # [V, F, 3, H, W]
        for clip, name in zip(clips, judge.name(clips[:, None]), strict=True):
            right += name == motion
            if name != motion:
                wrong.append(clip)
    if wrong:
        write_sheet(path, torch.stack(wrong[:12]))
    return right / (world.rgba.shape[0] * world.rgba.shape[1])
