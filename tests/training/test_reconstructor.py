"""The reconstructor's loss is that of its images before the same background, however they are mixed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from backend.cameras import orbit, reconstruction_cameras
from backend.gaussians.color import linear_to_srgb, srgb_to_linear
from backend.models.lgm import LGM
from backend.pipelines.three_d_aware import SplatRendering, reconstruct, render
from backend.training.reconstructor import ReconstructorObjective

SIZE, GREY = 16, 0.3


@pytest.fixture(scope="module")
def reconstructor() -> LGM:
    torch.manual_seed(0)
    net = LGM(
        input_size=SIZE,
        down_channels=(8, 8),
        down_attention=(False, False),
        up_channels=(8,),
        up_attention=(False,),
        layers_per_block=1,
        attention_heads=1,
    )
    return net.eval().requires_grad_(False)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "images": torch.rand(1, 2, 3, SIZE, SIZE, generator=generator),
        "targets": torch.rand(1, 2, 4, SIZE, SIZE, generator=generator),
        "cameras": orbit(5, 15.0, 2.0)[None],
        "background": torch.tensor(GREY),
    }


@pytest.mark.parametrize("blending", ["linear", "display"])
def test_loss_is_of_images_rendered_before_the_background(reconstructor, batch, blending):
    inputs = (1, 2)  # after view 0, which defines the frame
    objective = ReconstructorObjective(reconstructor, 39.6, blending, inputs)
    gaussians = reconstruct(batch["images"], batch["cameras"], inputs, reconstructor, 39.6)
    cameras = reconstruction_cameras(batch["cameras"])[:, 3:]
    colors, alphas = render(gaussians, cameras, SplatRendering(39.6, SIZE, GREY, blending))
    rgb, alpha = batch["targets"].split([3, 1], 2)
    if blending == "linear":
        light = srgb_to_linear(rgb) * alpha + srgb_to_linear(torch.tensor(GREY)) * (1 - alpha)
        truth = linear_to_srgb(light)
    else:
        truth = rgb * alpha + GREY * (1 - alpha)
    expected = (colors - truth).square().mean() + (alphas - alpha).square().mean()
    assert 0.01 < alphas.mean() < 0.99  # the background is seen, and so is the object
    torch.testing.assert_close(objective(**batch), expected)
    likeness = ReconstructorObjective(
        reconstructor, 39.6, blending, inputs, lambda one, other: (one - other).abs().amax((1, 2, 3))
    )
    torch.testing.assert_close(
        likeness(**batch), expected + (colors - truth).abs().flatten(0, 1).amax((1, 2, 3)).mean()
    )


def test_a_coloured_background_is_seen_where_nothing_is(reconstructor, batch):
    batch["cameras"], batch["background"] = batch["cameras"][:, :4], torch.tensor([0.9, 0.1, 0.4])
    gaussians = reconstruct(batch["images"], batch["cameras"], (0, 1), reconstructor, 39.6)
    cameras = reconstruction_cameras(batch["cameras"])[:, 2:]
    colors, alphas = render(gaussians, cameras, SplatRendering(39.6, SIZE, 0.0, "display"))
    rgb, alpha = batch["targets"].split([3, 1], 2)
    behind = batch["background"].view(3, 1, 1) * (alpha - alphas)
    expected = (colors - rgb * alpha + behind).square().mean() + (alphas - alpha).square().mean()
    loss = ReconstructorObjective(reconstructor, 39.6, "display", (0, 1))(**batch)
    torch.testing.assert_close(loss, expected)
