"""Trains a network of any size that denoises moving objects from several sides, in the papers' stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPTextModel

from ..cameras import at_unit_distance
from ..models.multiview_motion_unet import MultiViewMotionUNet
from ..pipelines.schedules import wanted_prediction

ALONE = 0.25  # of the samples that the model of sides learns from are single images


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
