"""Trains what Vivid-ZOO adds between a multi-view network and a motion network, and nothing else."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from ..cameras import at_unit_distance
from ..models.multiview_motion_unet import MultiViewMotionUNet
from ..pipelines.schedules import wanted_prediction
from .loop import Batch

CAPTION_DROPOUT = 0.1  # not stated in the paper; that of AnimateDiff's recipe, on whose code it was built


class AlignmentObjective(nn.Module):
    """The prediction for videos from several views (noise or v, as the schedule has it) is right.

    Only the alignment layers may learn it.

    Args:
        network: with alignment layers. All its other parameters are frozen here.
        schedule: keyword arguments of `DDIMScheduler`.
        checkpointing: keep few activations and compute them again in the backward pass, to fit small cards.

    Source: Vivid-ZOO (arXiv 2406.08659), section 3.3 and equation 6.
    """

    def __init__(
        self, network: MultiViewMotionUNet, schedule: dict[str, Any], checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.scheduler = DDIMScheduler(**schedule)
        network.requires_grad_(False)
        for parameter in network.alignment().values():
            parameter.requires_grad_(True)
        if checkpointing:
            network.enable_gradient_checkpointing()

    def forward(
        self,
        latents: Tensor,  # [B, V, F, C, h, w]
        tokens: Tensor,  # [B, L, D] encoded captions
        cameras: Tensor,  # [B, V, 4, 4] camera-to-world
        noise: Tensor,  # [B, V, F, C, h, w]
        timesteps: Tensor,  # [B]
    ) -> Tensor:
        """Mean squared error of the prediction."""
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        wanted = wanted_prediction(self.scheduler, latents, noise, timesteps)
        prediction = self.network(noisy, timesteps, tokens, at_unit_distance(cameras))
        return (prediction.float() - wanted).square().mean()


def batch_of(
    cameras: Tensor,  # [V, 4, 4] of all views
    latents: Tensor,  # [N, V, F, C, h, w] of every clip
    tokens: Tensor,  # [N, L, D] of the captions, encoded
    no_tokens: Tensor,  # [L, D] of no caption
    generator: torch.Generator,
    size: int,
    views: int = 4,
    frames: int = 16,
    stride: int = 3,
) -> Batch:
    """Random clips: evenly spaced views from a random one on, every `stride`-th frame from a random one on.

    Raises:
        ValueError: the clips have too few views or frames.
    """
    count, all_views, all_frames = latents.shape[:3]
    span = stride * (frames - 1) + 1
    if all_views % views or all_frames < span:
        raise ValueError(
            f"clips of {all_views} views and {all_frames} frames cannot give {views} evenly spaced views of "
            f"{frames} frames, every {stride}: a multiple of {views} views and {span} frames are needed"
        )

    def below(limit: int) -> Tensor:  # [size, 1]
        return torch.randint(limit, (size, 1), generator=generator)

    clips = below(count)
    seen = (below(all_views) + torch.arange(0, all_views, all_views // views)) % all_views  # [B, V]
    shown = below(all_frames - span + 1) + stride * torch.arange(frames)  # [B, F]
    chosen = latents[clips[:, :, None], seen[:, :, None], shown[:, None]]
    dropped = torch.rand(size, 1, 1, generator=generator) < CAPTION_DROPOUT
    return {
        "latents": chosen,
        "tokens": torch.where(dropped, no_tokens, tokens[clips[:, 0]]),
        "cameras": cameras[seen],
        "noise": torch.randn(chosen.shape, generator=generator),
        "timesteps": torch.randint(1000, (size,), generator=generator),
    }
