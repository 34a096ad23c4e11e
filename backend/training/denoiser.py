"""Trains the network that denoises views: on single images, then on videos, then with cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPTextModel

from ..models.videomv_unet import VideoMVUNet
from ..pipelines.schedules import wanted_prediction
from .loop import Batch

CAPTION_DROPOUT = 0.1  # also of AnimateDiff's recipe, on whose code Vivid-ZOO, which states none, was built
_BETWEEN_VIEWS = ("transformer_in", "temp_", "camera_embedding")


@dataclass(frozen=True)
class ViewsStage:
    """One of the three things that the network learns, one after another.

    Source: VideoMV (arXiv 2403.12010): a video model, which began as an image model, learns cameras.
    """

    views: int  # 1: images, by the layers within a view alone
    cameras: bool  # False: a video of somebody walking around the object, from anywhere


IMAGES, VIDEO, VIEWS = ViewsStage(1, False), ViewsStage(8, False), ViewsStage(8, True)


class DenoiserObjective(nn.Module):
    """The prediction (noise or v, as the schedule has it) is right, at every strength of noise.

    The network learns, and its text encoder with it unless that is frozen.
    """

    def __init__(
        self,
        unet: VideoMVUNet,
        text_encoder: CLIPTextModel,
        schedule: dict[str, Any],
        stage: ViewsStage,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder
        self.scheduler = DDIMScheduler(**schedule)
        self.stage = stage
        for name, parameter in unet.named_parameters():
            between = any(part in name for part in _BETWEEN_VIEWS)
            wanted = not between or (stage.views > 1 and (stage.cameras or "camera" not in name))
            parameter.requires_grad_(wanted)

    def forward(
        self,
        latents: Tensor,  # [B, C, V, h, w]
        tokens: Tensor,  # [B, L]
        cameras: Tensor,  # [B, V, 4, 4] camera-to-world
        noise: Tensor,  # [B, C, V, h, w]
        timesteps: Tensor,  # [B]
        **image: Tensor,  # more arguments of an image-conditioned network
    ) -> Tensor:
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        wanted = wanted_prediction(self.scheduler, latents, noise, timesteps)
        prediction = self.unet(
            noisy,
            timesteps,
            self.text_encoder(tokens).last_hidden_state,
            cameras if self.stage.cameras else None,
            mix_views=latents.shape[2] > 1,
            **image,
        )
        return (prediction.float() - wanted).square().mean()


def batch_of(
    orbit: Tensor,  # [V, 4, 4] the cameras of the views
    latents: Tensor,  # [N, V, C, h, w] of every object's views
    tokens: Tensor,  # [N, L] of the captions
    no_tokens: Tensor,  # [L] of no caption
    stage: ViewsStage,
    generator: torch.Generator,
    size: int,
) -> Batch:
    """Random objects: evenly spaced views of an orbit, from the front where cameras condition."""
    count, views = latents.shape[:2]
    objects = torch.randint(count, (size,), generator=generator)
    step = views // stage.views
    first = torch.randint(step if stage.cameras else views, (size, 1), generator=generator)
    seen = (first + torch.arange(0, views, step)) % views  # [B, V]
    chosen = latents[objects[:, None], seen].transpose(1, 2)
    dropped = torch.rand(size, 1, generator=generator) < CAPTION_DROPOUT
    return {
        "latents": chosen,
        "tokens": torch.where(dropped, no_tokens, tokens[objects]),
        "cameras": orbit[seen],
        "noise": torch.randn(chosen.shape, generator=generator),
        "timesteps": torch.randint(1000, (size,), generator=generator),
    }
