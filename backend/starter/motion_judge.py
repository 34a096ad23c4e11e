"""Says how an object of the small world moves: a judge that has never seen a generated image."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class MotionClassifier(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The motion in a clip of one view; several views of one object are taken together.

    It sees how frames differ from their mean, small and without colour, so that it cannot go by what the
    object is.
    """

    SIDE_PX = 48

    @register_to_config
    def __init__(self, motions: tuple[str, ...]) -> None:
        super().__init__()
        widths = (16, 32, 48, 64)
        layers: list[nn.Module] = [nn.Conv3d(1, widths[0], (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2))]
        for before, after in itertools.pairwise(widths):
            layers += [
                nn.GroupNorm(8, before),
                nn.SiLU(),
                nn.Conv3d(before, after, 3, stride=(1, 2, 2), padding=1),
            ]
        self.trunk = nn.Sequential(*layers, nn.GroupNorm(8, widths[-1]), nn.SiLU())
        self.motion = nn.Linear(widths[-1], len(motions))

    config: Any

    def forward(self, clips: Tensor) -> Tensor:  # [N, F, 3, H, W] sRGB 0..1 -> [N, M] logits
        return self.motion(self.seen(clips))

    def seen(self, clips: Tensor) -> Tensor:  # [N, F, 3, H, W] sRGB 0..1 -> [N, D]
        """Features of the motion, before it is named; the object itself is subtracted."""
        grey = clips.mean(2)  # [N, F, H, W]
        small = F.interpolate(grey, (self.SIDE_PX, self.SIDE_PX), mode="area")
        moving = small - small.mean(1, keepdim=True)
        moving = moving / (moving.std((1, 2, 3), keepdim=True) + 0.02)  # what hardly moves stays near nothing
        return self.trunk(moving.unsqueeze(1)).mean((2, 3, 4))

    @torch.inference_mode()
    def name(self, clips: Tensor) -> list[str]:  # [B, V, F, 3, H, W]
        """The motion of every object, from all of its views."""
        logits = self(clips.flatten(0, 1)).log_softmax(1).unflatten(0, clips.shape[:2]).mean(1)
        return [self.config.motions[i] for i in logits.argmax(1).tolist()]
