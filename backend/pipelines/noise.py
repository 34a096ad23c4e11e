"""The noise that denoising starts from: of the seed alone, whatever the device."""

from __future__ import annotations

import torch
from torch import Tensor

from ..seeds import generator_for
from .latents import latent_size
from .model import ViewsModel
from .schedules import mixed_noise


def initial_noise(model: ViewsModel, num_views: int, seed: int, frame: int = 0) -> Tensor:
    """Noise of one frame of all views, [1, V, 1, C, h, w]."""
    channels, height, width = latent_size(model.autoencoder.config, model.settings.size_px)
    shape = (1, channels, num_views, height, width)
    noise = torch.randn(shape, generator=generator_for(seed, f"views {frame}" if frame else "views"))
    return noise.transpose(1, 2).unsqueeze(2).to(model.device)


def video_noise(model: ViewsModel, num_views: int, num_frames: int | None, seed: int) -> Tensor:
    """Noise of a video, [1, V, F, C, h, w]; frames share a part of it, as the model's settings say.

    Args:
        num_frames: F; the model's own number if None.
    """
    count = num_frames or model.settings.num_frames
    common, *own = (initial_noise(model, num_views, seed, frame) for frame in range(count + 1))
    return mixed_noise(common, torch.cat(own, dim=2), model.settings.shared_noise)
