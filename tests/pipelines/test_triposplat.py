"""TripoSplat's loop: one token in place of many, reproducible points, the image's camera."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from backend.models.triposplat_decoder import TripoSplatDecoder
from backend.models.triposplat_flow import Context, TripoSplatFlow
from backend.pipelines import octree, triposplat
from backend.seeds import generator_for


@pytest.fixture(scope="module")
def flow() -> TripoSplatFlow:
    torch.manual_seed(0)
    net = TripoSplatFlow(
        latent_tokens=12, latent_channels=4, appearance_channels=6, detail_channels=5, width=64, num_heads=1,
        num_blocks=2, num_refiner_blocks=1, mlp_ratio=1,
    )  # fmt: skip
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return net.eval().requires_grad_(False)


def test_one_token_stands_for_all_equal_ones_of_the_unconditional_branch(flow: TripoSplatFlow) -> None:
    count = 4101
    whole = flow.encode_context(torch.zeros(1, count, 6), torch.zeros(1, count, 5))
    one = Context(flow.encode_context(torch.zeros(1, 1, 6), torch.zeros(1, 1, 5)).tokens, count)
    noise = torch.randn(1, 12, 4), torch.randn(1, 1, 5), torch.tensor([700.0])
    for exact, saved in zip(flow(*noise, whole), flow(*noise, one), strict=True):
        assert (exact - saved).abs().mean() < 1e-6
    uncounted = flow(*noise, Context(one.tokens))[0]
    assert (uncounted - flow(*noise, one)[0]).abs().max() > 1e-4


def test_points_are_the_same_for_the_same_seed_and_lie_where_the_shares_say() -> None:
    torch.manual_seed(0)
    decoder = TripoSplatDecoder(width=12, num_heads=1, octree_blocks=1, gaussian_blocks=1, mlp_ratio=1).eval()
    latent = torch.randn(1, 9, 16)

    def logits(centres: torch.Tensor, resolution: int) -> torch.Tensor:
        return decoder.child_logits(centres[None], torch.tensor([resolution]), latent)[0]

    def points(seed: int) -> torch.Tensor:
        uniform = partial(torch.rand, generator=generator_for(seed, "points"))
        return octree.sample_points(logits, 50, uniform)

    assert torch.equal(points(3), points(3))
    assert not torch.equal(points(3), points(4))

    corner = torch.tensor([-50.0] * 7 + [50.0])
    there = octree.sample_points(lambda centres, _: corner.expand(len(centres), 8), 20, torch.rand)
    assert (there > 1 - 2**-8).all()


def test_times_go_from_noise_to_nothing_and_linger_near_the_noise() -> None:
    times = triposplat.times(20, 3)
    assert times[0] == 1 and times[-1] == 0 and len(times) == 21
    assert times[10] == pytest.approx(0.75)


def test_camera_token_is_the_camera_that_took_the_image() -> None:
    elevation, azimuth, radius, fov = 0.2, 0.3, 1.6, math.radians(40)
    direction = [
        math.cos(elevation) * math.cos(azimuth),
        math.cos(elevation) * math.sin(azimuth),
        math.sin(elevation),
    ]
    token = torch.tensor([*(3 * c for c in direction), 1 / radius, radius * math.tan(fov / 2)])
    camera = triposplat.camera_of(token)
    assert camera.usual
    assert (camera.azimuth, camera.elevation_deg) == pytest.approx((azimuth, math.degrees(elevation)))
    assert (camera.radius, camera.fov_deg) == pytest.approx((radius, 40.0))


@pytest.mark.parametrize(
    "token",
    [
        [1, 0, 0, 0.1, 1],  # 10 away
        [0, 0, 1, 0.6, 1],  # straight above
        [1, 0, 0, 0.6, 0.01],  # a telescope
        [0, 0, 0, 0.6, 1],
        [1, 0, 0, -0.6, 1],
        [math.nan, 0, 0, 0.6, 1],
    ],
)
def test_strange_camera_is_told_from_a_usual_one(token: list[float]) -> None:
    assert not triposplat.camera_of(torch.tensor(token)).usual
