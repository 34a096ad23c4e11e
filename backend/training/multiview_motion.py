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

ALONE = 0.25  # of the samples of the multi-view stage are single images
SIDES = 0.5  # as much as clips where both are learnt at once


@dataclass(frozen=True)
class MotionStage:
    """One of the things that the network learns, one after another.

    Source: MVDream (2308.16512), AnimateDiff (2307.04725) and Vivid-ZOO (2406.08659): a model of single
    images, which becomes one of several sides and goes on seeing single images too; with that frozen, motion
    modules, from clips of one side; and with both frozen, the layers between motion and sides. Unlike
    AnimateDiff's, the clips' cameras are known and told: else every frame guesses a side of its own.
    """

    multiview: bool
    motion: bool

    def learns(self, parameter: str) -> bool:
        """Whether the parameter of that name is trained; all others are frozen."""
        if ".align_" in parameter:
            return self.multiview and self.motion
        if "motion_modules" in parameter:
            return self.motion and not self.multiview
        if "camera_embedding" in parameter:
            return self.multiview and not self.motion
        return not self.motion


IMAGES, MULTIVIEW, MOTION, ALIGNMENT = (
    MotionStage(False, False),
    MotionStage(True, False),
    MotionStage(False, True),
    MotionStage(True, True),
)


class MultiViewMotionObjective(nn.Module):
    """The prediction (noise or v, as the schedule has it) is right, at every strength of noise.

    The text encoder learns with what does not move.

    Args:
        schedule: keyword arguments of `DDIMScheduler`.
        checkpointing: keep few activations and compute them again in the backward pass, to fit small cards.
    """

    def __init__(
        self,
        network: MultiViewMotionUNet,
        text_encoder: CLIPTextModel,
        schedule: dict[str, Any],
        stage: MotionStage,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.text_encoder = text_encoder
        self.scheduler = DDIMScheduler(**schedule)
        self.stage = stage
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(stage.learns(name))
        text_encoder.requires_grad_(not stage.motion)
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
        noisy.requires_grad_(self.stage == MOTION)
        wanted = wanted_prediction(self.scheduler, latents, noise, timesteps)
        context = self.text_encoder(tokens).last_hidden_state
        views = at_unit_distance(cameras)
        alone = round(ALONE * len(latents)) if self.stage == MULTIVIEW else 0
        prediction = self._predict(
            noisy[alone:], timesteps[alone:], context[alone:], None if self.stage == IMAGES else views[alone:]
        )
        if alone:
            count = latents.shape[1]
            each = self._predict(
                noisy[:alone].flatten(0, 1)[:, None],
                timesteps[:alone].repeat_interleave(count),
                context[:alone].repeat_interleave(count, 0),
                None,
            )
            prediction = torch.cat([each[:, 0].unflatten(0, (alone, count)), prediction])
        return (prediction.float() - wanted).square().mean()

    def _predict(self, noisy: Tensor, timesteps: Tensor, context: Tensor, cameras: Tensor | None) -> Tensor:
        prediction: Tensor = self.network(noisy, timesteps, context, cameras, motion=self.stage.motion)
        return prediction


class ClipsAndSidesObjective(nn.Module):
    """Clips of one side and frames of several sides at once: all layers learn, but not those of alignment.

    A small network whose layers within a frame stay as they were does not keep a face from frame to frame,
    however long its motion modules learn. Batches are those of both stages, as `clips.NAME`, `sides.NAME`.

    Args:
        schedule: keyword arguments of `DDIMScheduler`.
    """

    def __init__(
        self, network: MultiViewMotionUNet, text_encoder: CLIPTextModel, schedule: dict[str, Any]
    ) -> None:
        super().__init__()
        self.clips, self.sides = (
            MultiViewMotionObjective(network, text_encoder, schedule, stage) for stage in (MOTION, MULTIVIEW)
        )
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not ALIGNMENT.learns(name))
        text_encoder.requires_grad_(True)

    def forward(self, **batch: Tensor) -> Tensor:
        clips, sides = (
            objective(**{name.removeprefix(start): batch[name] for name in batch if name.startswith(start)})
            for objective, start in ((self.clips, "clips."), (self.sides, "sides."))
        )
        return clips + SIDES * sides
