"""The painted blob, swimming: it travels, turns and bends by a known law, which measures tracking."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from backend.gaussians.fitting import SplatParameters
from backend.gaussians.rigidity import multiply
from backend.shared.sequence_file import Blending
from tests.gaussians.painted_blob import painted_blob, painted_images


def swum(points: Tensor, time: float) -> Tensor:  # [N, 3], 0..1
    """Where the points of the blob are: bent by a wave, turned by 60 degrees a unit of time, and shifted."""
    x, y, z = points.unbind(-1)
    y = y + 0.12 * torch.sin(4 * x - 2 * math.pi * time) * (0.5 - x)
    turn = math.radians(60) * time
    cos, sin = math.cos(turn), math.sin(turn)
    return torch.stack([cos * x - sin * y + 0.35 * time, sin * x + cos * y, z - 0.2 * time], -1)


def swimming(count: int, frames: int, duration: float = 1.0) -> list[SplatParameters]:
    """The truth of every frame."""
    rest, clouds = painted_blob(count), []
    for frame in range(frames):
        time = duration * frame / frames
        half = math.radians(30) * time
        turn = torch.tensor([math.cos(half), 0, 0, math.sin(half)])
        moved = replace(rest, means=swum(rest.means, time), quats=multiply(turn, rest.quats))
        clouds.append(moved)
    return clouds


def video(
    truth: list[SplatParameters], cameras: Tensor, size: int, blending: Blending = "linear"
) -> Tensor:  # [V, F, 4, size, size]
    return torch.stack([painted_images(frame, cameras, size, blending) for frame in truth], 1)
