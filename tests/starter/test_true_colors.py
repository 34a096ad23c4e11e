"""Latents learn to have colours along three directions, and stay what they were along all others."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from backend.pipelines.latents import encode
from backend.starter.autoencoder import ColorsObjective, color_directions
from backend.starter.dataset import GREY
from tests import tiny

STEPS = 60


@pytest.fixture(scope="module")
def images() -> torch.Tensor:  # squares of any colour on grey
    generator = torch.Generator().manual_seed(0)
    colors = torch.rand(24, 3, 1, 1, generator=generator)
    inside = F.pad(torch.ones(1, 1, 16, 16), (8, 8, 8, 8))
    return GREY + (colors - GREY) * inside


@pytest.fixture(scope="module")
def before() -> AutoencoderKL:
    torch.manual_seed(0)
    return tiny.autoencoder(2, latent_channels=6).eval()


@pytest.fixture(scope="module")
def directions(before: AutoencoderKL, images: torch.Tensor) -> tuple[torch.Tensor, float]:
    return color_directions(before, images)


@pytest.fixture(scope="module")
def after(
    before: AutoencoderKL, images: torch.Tensor, directions: tuple[torch.Tensor, float]
) -> AutoencoderKL:
    torch.manual_seed(0)
    trained = copy.deepcopy(before)
    objective = ColorsObjective(trained, *directions)
    optimizer = torch.optim.Adam(trained.parameters(), 3e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        objective(images).backward()
        optimizer.step()
    return trained


def test_directions_are_orthonormal_and_colours_vary_along_them(
    directions: tuple[torch.Tensor, float],
) -> None:
    found, gain = directions
    torch.testing.assert_close(found @ found.T, torch.eye(3))
    assert gain > 0


def told_colors(
    autoencoder: AutoencoderKL, before: AutoencoderKL, images: torch.Tensor, directions: torch.Tensor
) -> torch.Tensor:  # [B, 3, h, w], of those of plain grey
    with torch.no_grad():
        plain = encode(before, torch.full_like(images[:1], GREY)).mean((2, 3), keepdim=True)
        return torch.einsum("dc,bchw->bdhw", directions, encode(autoencoder, images) - plain)


def test_latents_tell_mean_colours_after_training(
    before: AutoencoderKL,
    after: AutoencoderKL,
    images: torch.Tensor,
    directions: tuple[torch.Tensor, float],
) -> None:
    along, gain = directions
    wanted = gain * (F.avg_pool2d(images, 4) - GREY)
    wrong, right = (
        (told_colors(each, before, images, along) - wanted).abs().mean() for each in (before, after)
    )
    assert right < 0.5 * wrong


def test_all_other_directions_stay_nearer_to_what_they_were_than_these(
    before: AutoencoderKL,
    after: AutoencoderKL,
    images: torch.Tensor,
    directions: tuple[torch.Tensor, float],
) -> None:
    along = directions[0]
    with torch.no_grad():
        moved = encode(after, images) - encode(before, images)
    there = torch.einsum("dc,bchw->bdhw", along, moved).square().sum(1).mean()
    assert moved.square().sum(1).mean() - there < there
