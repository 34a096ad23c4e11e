"""Outlines agree if there is one object, and do not if there are several."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from backend.cameras import orbit, plucker_rays
from backend.evaluation.silhouettes import silhouette_consistency
from backend.starter.dataset import ELEVATION_DEG, FOV_DEG, RADIUS
from backend.starter.sdf import render
from backend.starter.world import make_object


def balls(centers: Tensor, cameras: Tensor, size: int = 64, radius: float = 0.25) -> Tensor:  # [V, H, W]
    """Where a ball is seen that has a place of its own, [3], in every view; exact for a pinhole."""
    rays = plucker_rays(cameras, FOV_DEG, size, size)[:, 3:]
    away = centers - cameras[:, :3, 3]
    along = torch.einsum("vchw,vc->vhw", rays, away)
    return away.square().sum(-1)[:, None, None] - along.square() < radius**2


@pytest.mark.parametrize("count", [2, 4, 9])
def test_one_ball_agrees_with_itself_wherever_it_is(count):
    cameras = orbit(count, 20.0, 2.0, 10.0)
    for center in ((0.0, 0.0, 0.0), (0.2, -0.1, 0.15)):
        masks = balls(torch.tensor(center).expand(count, 3), cameras)
        assert silhouette_consistency(masks, cameras, FOV_DEG) > 0.96


def test_a_ball_that_is_higher_in_one_view_agrees_less_the_higher_it_is():
    cameras = orbit(4, 20.0, 2.0)
    found = []
    for lift in (0.0, 0.05, 0.15, 0.3):
        centers = torch.zeros(4, 3)
        centers[2, 2] = lift
        found.append(silhouette_consistency(balls(centers, cameras), cameras, FOV_DEG))
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.98 and found[1] < 0.9 and found[3] < 0.5


def test_cameras_that_are_not_the_views_own_do_not_agree():
    cameras = orbit(4, 20.0, 2.0)
    masks = balls(torch.tensor([0.3, 0.0, 0.0]).expand(4, 3), cameras)
    assert silhouette_consistency(masks, cameras, FOV_DEG) > 0.98
    assert silhouette_consistency(masks, cameras[[1, 0, 2, 3]], FOV_DEG) < 0.7


@pytest.mark.parametrize("category", ["fish", "robot", "tree"])
def test_sides_of_four_objects_of_one_name_agree_less_than_those_of_one(category):
    cameras = orbit(4, ELEVATION_DEG, RADIUS)
    views = torch.stack(
        [
            render(make_object(seed, category, "red").shape, cameras, FOV_DEG, 64)[0][:, 3]
            for seed in range(11, 15)
        ]
    )  # [4 objects, 4 sides, H, W]
    same = [silhouette_consistency(masks, cameras, FOV_DEG) for masks in views]
    mixed = silhouette_consistency(views[range(4), range(4)], cameras, FOV_DEG)
    assert min(same) > 0.97
    assert mixed < min(same) - 0.03


def test_views_without_an_object_or_without_others_have_no_figure():
    cameras = orbit(4, 20.0, 2.0)
    masks = balls(torch.zeros(4, 3), cameras)
    assert silhouette_consistency(masks[:1], cameras[:1], FOV_DEG) is None
    masks[2] = False
    assert silhouette_consistency(masks, cameras, FOV_DEG) is None
    assert (
        silhouette_consistency(torch.ones(4, 64, 64), cameras, FOV_DEG) is None
    )  # no outline: all is object
