"""Tracked Gaussians go where the object goes, look the same all the time, and do not flicker."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from backend.cameras import orbit
from backend.gaussians import fitting, rigidity, tracking
from tests.gaussians.moving_blob import swimming, video
from tests.gaussians.painted_blob import FOV_DEG

CAMERAS = orbit(4, 15.0, 2.0)
QUICK = tracking.Effort(canonical=70, whole=16, parts=24, each=20, together=10)


@pytest.fixture
def still():
    """Places, rotations and neighbours of a few Gaussians."""
    generator = torch.Generator().manual_seed(0)
    means, quats = torch.randn(40, 3, generator=generator), torch.randn(40, 4, generator=generator)
    return means, torch.nn.functional.normalize(quats, dim=-1), rigidity.neighbours(means, 5)


@torch.no_grad()
def flicker(clouds, camera, size):
    """Mean absolute second difference over time of what a still camera sees, in 0..1 of sRGB."""
    black = torch.zeros(1, 3)
    seen = torch.cat(
        [
            fitting.render(
                fitting.SplatParameters.of(cloud), camera[None], FOV_DEG, size, size, black, "linear"
            )
            for cloud in clouds
        ]
    )
    return float((seen[2:] - 2 * seen[1:-1] + seen[:-2]).abs().mean())


def guesses(images, count):
    """A first cloud for each frame; they have nothing to do with each other."""
    return [
        fitting.cloud_in_silhouettes(images[:, frame], CAMERAS[: len(images)], FOV_DEG, count, seed=frame)
        for frame in range(images.shape[1])
    ]


def test_gaussians_end_where_the_swimming_object_carried_them(monkeypatch):
    truth = swimming(600, 4)
    images, done = video(truth, CAMERAS, 48), []
    monkeypatch.setattr(tracking, "_best_frame", lambda *_: 1)  # followed in both directions
    clouds = tracking.track(
        images,
        CAMERAS,
        FOV_DEG,
        guesses(images, 500),
        effort=QUICK,
        on_step=lambda step, total: done.append((step, total)),
    )
    total = QUICK.total(4)
    assert done == [(step, total) for step in range(1, total + 1)]
    assert [len(cloud) for cloud in clouds] == [500] * 4
    for cloud in clouds[1:]:
        for what in ("scales", "opacities", "sh"):
            np.testing.assert_array_equal(getattr(cloud, what), getattr(clouds[0], what))

    solid = clouds[1].opacities > 0.2
    means = torch.from_numpy(clouds[1].means[solid])
    nearest = torch.cdist(means, truth[1].means).argmin(1)
    apart = rigidity.neighbours(means, 8).spacing
    for frame, way in ((0, 0.1), (3, 0.2)):
        should = truth[frame].means[nearest] - truth[1].means[nearest]
        moved = torch.from_numpy(clouds[frame].means[solid]) - means
        assert should.norm(dim=-1).median() > way
        assert (moved - should).norm(dim=-1).median() < 0.6 * apart  # it is still among the same neighbours


def test_noise_in_the_images_flickers_less_than_in_clouds_of_each_frame():
    truth = swimming(500, 4, duration=0.05)
    images = video(truth, CAMERAS, 40)
    noise = 0.1 * torch.randn(images[:, :, :3].shape, generator=torch.Generator().manual_seed(1))
    images[:, :, :3] = (images[:, :, :3] + noise).clamp(0, 1)
    alone = [
        fitting.fit(start, images[:, frame], CAMERAS, FOV_DEG, 70, seed=frame)
        for frame, start in enumerate(guesses(images, 400))
    ]
    tracked = tracking.track(images, CAMERAS, FOV_DEG, alone, effort=QUICK)
    between = orbit(4, 15.0, 2.0, 45.0)[0]
    before, after = (flicker(clouds, between, 48) for clouds in (alone, tracked))
    assert [len(cloud) for cloud in tracked] == [400] * 4
    assert after < 0.5 * before


def test_gaussians_that_only_one_view_looks_at_are_left_out():
    images = video(swimming(100, 2), CAMERAS, 24)
    floating = torch.tensor([[1.45, 0.8, 0.0], [-0.8, 1.45, 0.0], [0.0, 0.0, 1.5]])  # in one, one, no view
    start = [fitting.SplatParameters.of(cloud).to_cloud() for cloud in guesses(images, 60)]
    for cloud in start:
        cloud.means[:3], cloud.opacities[:3] = floating.numpy(), 0.6
    tracked = tracking.track(images, CAMERAS, FOV_DEG, start, effort=tracking.Effort(5, 2, 2, 2, 2))
    assert [len(cloud) for cloud in tracked] == [57, 57]
    assert max(np.linalg.norm(cloud.means, axis=1).max() for cloud in tracked) < 0.8


def test_the_same_seed_gives_the_same_clouds():
    images = video(swimming(100, 2), CAMERAS[:2], 24)
    start, effort = guesses(images, 60), tracking.Effort(5, 2, 2, 2, 2)
    one, other = (
        tracking.track(images, CAMERAS[:2], FOV_DEG, start, effort=effort, seed=5) for _ in range(2)
    )
    assert all((a.means == b.means).all() and (a.sh == b.sh).all() for a, b in zip(one, other, strict=True))


def test_rigid_motion_costs_nothing_and_tearing_does(still):
    means, quats, near = still
    turn = torch.nn.functional.normalize(torch.tensor([0.3, 0.5, -0.7, 0.4]), dim=0)
    moved, turned = rigidity.rotate(turn, means) + 2.0, rigidity.multiply(turn, quats)
    assert rigidity.rigidity(moved[None], turned[None], means, quats, near).abs() < 1e-3
    assert rigidity.rigidity(moved[None], quats[None], means, quats, near) > 0.1  # moved but not turned
    torn = means + torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    assert rigidity.rigidity(torn[None], quats[None], means, quats, near) > 0.1


def test_steady_motion_is_smooth_and_a_jerk_is_not(still):
    means, quats, near = still
    time = torch.arange(5.0).view(5, 1, 1)
    steady, same = means + 0.3 * time, quats.expand(5, -1, -1)
    assert rigidity.roughness(steady, same, near.spacing).abs() < 1e-3
    steady[2] += 0.1
    assert rigidity.roughness(steady, same, near.spacing) > 0.01


def test_rotations_compose_as_matrices_do(still):
    _, quats, _ = still
    eye = torch.eye(3)
    a, b = quats[:20, None], quats[20:, None]
    both = rigidity.rotate(rigidity.multiply(a, b), eye)
    torch.testing.assert_close(both, rigidity.rotate(a, rigidity.rotate(b, eye)), atol=1e-5, rtol=0)
    quarter = torch.tensor([math.sqrt(0.5), 0, 0, math.sqrt(0.5)])
    torch.testing.assert_close(rigidity.rotate(quarter, eye[0]), eye[1])


def test_parts_are_spread_and_share_every_gaussian(still):
    means, _, _ = still
    parts = rigidity.parts_of(means, 6)
    torch.testing.assert_close(parts.weights.sum(1), torch.ones(40))
    assert len(set(parts.centers.tolist())) == 6
    assert (parts.weights[parts.centers].argmax(1) == torch.arange(6)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(4, 4, 8, 8)}, "expected .V, F, 4, H, W"),
        ({"images": torch.zeros(4, 2, 3, 8, 8)}, "expected .V, F, 4, H, W"),
        ({"cameras": CAMERAS[:3]}, "one for each view"),
        ({}, "0 clouds to start from for 2 frames"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_words(changes, message):
    given = {
        "images": torch.zeros(4, 2, 4, 8, 8),
        "cameras": CAMERAS,
        "fov_deg": FOV_DEG,
        "start": [],
    } | changes
    with pytest.raises(ValueError, match=message):
        tracking.track(**given)
