"""Flow error and self-consistency: low for one object, high for views that contradict each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from backend.cameras import orbit
from backend.evaluation.consistency import chamfer, self_consistency
from backend.evaluation.flow import flow_rmse
from backend.evaluation.images import at_most, border_color, with_mask
from tests.gaussians.painted_blob import FOV_DEG, painted_blob, painted_images


def waves(shift: float, size: int = 64) -> torch.Tensor:  # [3, H, W]
    """A smooth pattern, moved to the right by some pixels."""
    y, x = torch.meshgrid(torch.arange(1.0 * size), torch.arange(1.0 * size) - shift, indexing="ij")
    bands = [torch.sin(0.31 * x + 0.2 * y), torch.sin(0.17 * y - 0.23 * x), torch.sin(0.27 * x)]
    return 0.5 + 0.4 * torch.stack(bands)


def plain_rmse(one: torch.Tensor, other: torch.Tensor, inside: torch.Tensor) -> float:
    return float((one - other)[:, inside].square().mean().sqrt())


def test_a_known_shift_is_undone_by_the_flow():
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[12:52, 12:52] = True
    images = torch.stack([waves(0), waves(2.5)])
    error = flow_rmse(images, inside.expand(2, 64, 64), 1, closed=False)
    assert plain_rmse(*images, inside) > 0.18
    assert error < 0.006
    assert flow_rmse(images[:1].expand(2, 3, 64, 64), inside.expand(2, 64, 64), 1, closed=False) < 1e-3


def test_a_change_of_brightness_is_no_motion():
    inside = torch.ones(2, 64, 64, dtype=torch.bool)
    steady = flow_rmse(torch.stack([waves(0), waves(1)]), inside, 1, closed=False)
    flickering = flow_rmse(torch.stack([waves(0), 0.7 * waves(1)]), inside, 1, closed=False)
    assert flickering > 4 * steady and flickering > 0.1


def test_gaps_go_round_a_closed_orbit_and_need_enough_views():
    images = torch.stack([waves(0), waves(1), waves(2), 1 - waves(0)])
    inside = torch.ones(4, 64, 64, dtype=torch.bool)
    assert flow_rmse(images[:3], inside[:3], 1, closed=False) < 0.02
    closing = flow_rmse(images, inside, 3, closed=True)  # 0 to 3, and around: 1 to 0, 2 to 1, 3 to 2
    assert closing > 0.1
    assert flow_rmse(images, inside, 4, closed=True) is None


def test_views_of_one_object_are_more_consistent_than_views_of_two():
    cameras = orbit(8, 15.0, 2.0)
    blob = painted_blob(500)
    means = blob.means[:, [1, 0, 2]] * torch.tensor([0.8, 1.1, 0.9])
    other = replace(blob, means=means, sh=-blob.sh)
    one, two = (painted_images(splats, cameras, 48, "linear") for splats in (blob, other))
    mixed = torch.where((torch.arange(8) % 2 == 0).view(8, 1, 1, 1), one, two)
    good, bad = (self_consistency(rgba, cameras, FOV_DEG, "linear", 32, 300) for rgba in (one, mixed))
    assert good.psnr_db > bad.psnr_db + 5
    assert good.ssim > bad.ssim + 0.1
    assert good.chamfer < bad.chamfer


def test_too_few_views_are_refused():
    with pytest.raises(ValueError, match="3 views are too few"):
        self_consistency(torch.ones(3, 4, 32, 32), orbit(3, 15.0, 2.0), FOV_DEG, "linear")


def test_chamfer_of_known_points():
    square = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 4, 0], [3, 4, 0]])
    assert chamfer(square, square) == 0
    # one point of five is 0.5 away: a mean of 0.1 one way, 0 the other; the diagonal is 5
    more = torch.cat([square, torch.tensor([[0.0, 0.5, 0]])])
    assert chamfer(more, square) == pytest.approx(0.1 / 2 / 5)
    assert chamfer(square[:0], square) == float("inf")


def test_the_object_of_opaque_views_is_found_by_their_border():
    opaque = torch.full((2, 1, 3, 32, 32), 0.5)
    opaque[..., 10:20, 10:20] = torch.tensor([1.0, 0, 0]).view(3, 1, 1)
    background = border_color(opaque)
    assert background.tolist() == [0.5] * 3
    rgba = with_mask(opaque, background)
    assert rgba[:, :, 3].sum() == 2 * 100 and rgba[0, 0, 3, 10:20, 10:20].min() == 1


def test_reducing_does_not_mix_hidden_colours_in():
    rgba = torch.zeros(1, 4, 64, 64)
    rgba[:, 1] = 1  # green where nothing is
    rgba[:, :, 10:51, 10:51] = torch.tensor([1.0, 0, 0, 1]).view(4, 1, 1)
    small = at_most(rgba, 32)
    assert small.shape == (1, 4, 32, 32)
    assert (small[0, 1] * small[0, 3]).max() < 1e-5 and 0 < small[0, 3].mean() < 1
