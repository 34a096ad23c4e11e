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


@dataclass(frozen=True)
class MotionStage:
    """One of the things that the network learns, one after another.

    Source: MVDream (2308.16512), AnimateDiff (2307.04725) and Vivid-ZOO (2406.08659): a model of single
    images, which becomes one of several sides and goes on seeing single images too; with that frozen, motion
    modules, from clips of one side; and with both frozen, the layers between motion and sides.
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

    The text encoder learns with the model of single images only; but words for motions, which single images do
    not show, with the motion modules.

    Args:
        schedule: keyword arguments of `DDIMScheduler`.
        checkpointing: keep few activations and compute them again in the backward pass, to fit small cards.
        motion_words: how many of the text encoder's words, the last ones, are learnt with the motion modules; for
            a text encoder that knew no motions before. (A plan with weight decay wears the other words down.)
    """

    def __init__(
        self,
        network: MultiViewMotionUNet,
        text_encoder: CLIPTextModel,
        schedule: dict[str, Any],
        stage: MotionStage,
        checkpointing: bool = False,
        motion_words: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.text_encoder = text_encoder
        self.scheduler = DDIMScheduler(**schedule)
        self.stage = stage
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(stage.learns(name))
        text_encoder.requires_grad_(stage == IMAGES)
        if stage == MOTION and motion_words:
            words = text_encoder.get_input_embeddings().weight.requires_grad_(True)
            new = torch.arange(len(words)) >= len(words) - motion_words
            words.register_hook(lambda gradient: gradient * new.to(gradient.device)[:, None])
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
            noisy[alone:], timesteps[alone:], context[alone:], views[alone:] if self.stage.multiview else None
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
