"""Fitting finds a cloud that looks like the images, in the space in which it will be composited."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.cameras import orbit
from backend.gaussians import color, fitting
from backend.gaussians.color import linear_to_srgb, srgb_to_linear
from tests.gaussians.painted_blob import FOV_DEG, painted_blob, painted_images


@torch.no_grad()
def psnr(cloud, truth, cameras, size: int, blending) -> float:
    background = torch.ones(len(cameras), 3)
    image, target = (
        fitting.render(leaves, cameras, FOV_DEG, size, size, background, blending).clamp(0, 1)
        for leaves in (fitting.SplatParameters.of(cloud), truth)
    )
    return -10 * math.log10((image - target).square().mean().item())


def test_ten_thousand_gaussians_reach_33_db_in_240_steps():
    truth, cameras = painted_blob(10_000), orbit(8, 15.0, 2.0)
    images = painted_images(truth, cameras, 256, "linear")
    start = fitting.cloud_in_silhouettes(images, cameras, FOV_DEG, 10_000)
    assert psnr(start, truth, cameras, 256, "linear") < 20
    seen = []
    cloud = fitting.fit(
        start, images, cameras, FOV_DEG, 240, on_step=lambda step, error: seen.append((step, error))
    )
    assert psnr(cloud, truth, cameras, 256, "linear") > 33
    assert len(cloud) == 10_000 and [step for step, _ in seen] == list(range(1, 241))
    assert seen[-1][1] < seen[0][1] / 5
    other_views = orbit(8, 25.0, 2.0, azimuth_start_deg=22.5)
    assert psnr(cloud, truth, other_views, 256, "linear") > 25  # it is an object, not eight images


def test_display_compositing_and_harmonics():
    truth, cameras = painted_blob(1500), orbit(6, 15.0, 2.0)
    images = painted_images(truth, cameras, 96, "display")
    start = fitting.cloud_in_silhouettes(images, cameras, FOV_DEG, 1500)
    start = replace(start, sh=np.pad(start.sh, ((0, 0), (0, 3), (0, 0))))  # and harmonics of degree 1
    cloud = fitting.fit(start, images, cameras, FOV_DEG, 150, "display")
    assert cloud.sh_degree == 1
    assert psnr(cloud, truth, cameras, 96, "display") > 27


def test_views_that_disagree_about_an_edge_leave_it_crisp():
    truth, cameras = painted_blob(1500), orbit(6, 15.0, 2.0)
    images = painted_images(truth, cameras, 96, "linear")
    apart = torch.stack([image.roll(2 * (-1) ** i, -1) for i, image in enumerate(images)])
    start = fitting.cloud_in_silhouettes(images, cameras, FOV_DEG, 3000)

    def gradients(**weight: float) -> float:
        cloud = fitting.fit(start, apart, cameras, FOV_DEG, 150, **weight)
        rgba = fitting.render_rgba(fitting.SplatParameters.of(cloud), cameras, FOV_DEG, 96, 96, "linear")
        seen = color.over(rgba, 0.5)
        return (seen.diff(dim=-1).square().sum() + seen.diff(dim=-2).square().sum()).item()

    assert gradients() > 1.1 * gradients(contrast=0.0)


def test_halved_gaussians_look_about_the_same():
    truth, cameras = painted_blob(1500), orbit(4, 15.0, 2.0)
    whole = truth.to_cloud()
    halves = fitting.halved(whole)
    assert len(halves) == 2 * len(whole)
    np.testing.assert_allclose(halves.means.reshape(2, -1, 3).mean(0), whole.means, atol=1e-6)
    longest = whole.scales.max(1)
    apart = np.linalg.norm(halves.means[: len(whole)] - halves.means[len(whole) :], axis=1)
    np.testing.assert_allclose(apart, longest, rtol=1e-4)
    assert psnr(halves, truth, cameras, 96, "linear") > 24


def test_the_same_seed_gives_the_same_cloud():
    truth, cameras = painted_blob(300), orbit(4, 15.0, 2.0)
    images = painted_images(truth, cameras, 48, "linear")
    start = fitting.cloud_in_silhouettes(images, cameras, FOV_DEG, 300)
    one, other = (fitting.fit(start, images, cameras, FOV_DEG, 10, seed=5) for _ in range(2))
    assert (one.means == other.means).all() and (one.sh == other.sh).all()


@pytest.mark.parametrize("blending", ["linear", "display"])
def test_rgba_renders_look_right_over_any_background(blending):
    truth, cameras = painted_blob(300), orbit(3, 15.0, 2.0)
    found = fitting.render_rgba(truth, cameras, FOV_DEG, 48, 48, blending).movedim(1, -1)
    behind = torch.tensor([[0.2, 0.5, 0.8]])
    seen = fitting.render(truth, cameras, FOV_DEG, 48, 48, behind.expand(3, 3), blending).clamp(0, 1)
    torch.testing.assert_close(color.over(found, behind, blending, -1), seen, rtol=0, atol=2e-3)
    assert found[..., 3].min() < 0.01 and found[..., 3].max() > 0.9


def test_silhouettes_without_a_common_volume_are_refused():
    images = torch.zeros(2, 4, 32, 32)
    images[0, 3, :10], images[1, 3, 22:] = 1, 1
    with pytest.raises(ValueError, match="nothing in common"):
        fitting.cloud_in_silhouettes(images, orbit(1, 0.0, 2.0).expand(2, 4, 4), FOV_DEG, 10)


def test_srgb_curves_are_inverse_and_differentiable_at_black():
    values = torch.linspace(-0.5, 1.5, 401, dtype=torch.float64)
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(values)), values, rtol=0, atol=1e-6)
    assert srgb_to_linear(torch.tensor(0.5)).item() == pytest.approx(0.21404114, abs=1e-6)
    for curve, slope in ((srgb_to_linear, 1 / 12.92), (linear_to_srgb, 12.92)):
        x = torch.tensor([0.0, -1.0, 1e-12, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
        curve(x).sum().backward()
        assert x.grad.isfinite().all() and x.grad[0].item() == pytest.approx(slope)
        assert torch.autograd.gradcheck(
            curve, torch.tensor([0.2, 0.8], dtype=torch.float64, requires_grad=True)
        )
