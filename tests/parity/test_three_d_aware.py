"""The 3D-aware step keeps frames of reference, blending and samples apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from backend import cameras
from backend.gaussians.color import linear_to_srgb, srgb_to_linear
from backend.models.lgm import LGM, Gaussians
from backend.pipelines import three_d_aware as aware

RENDERING = aware.SplatRendering(fov_deg=40.0, size_px=32, background=0.25, blending="display")


def cloud(batch: int = 1, count: int = 60) -> Gaussians:
    generator = torch.Generator().manual_seed(3)

    def uniform(*size: int) -> Tensor:
        return torch.rand(batch, count, *size, generator=generator)

    quats = uniform(4) - 0.5
    return Gaussians(
        means=uniform(3) - 0.5,
        opacities=uniform() * 0.8,
        scales=0.02 + 0.1 * uniform(3),
        quats=quats / quats.norm(dim=-1, keepdim=True),
        rgb=uniform(3),
    )


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 180.0, 233.0])
def test_gaussians_in_the_world_look_the_same_from_the_world_s_cameras(azimuth: float) -> None:
    local = cloud()
    orbit = cameras.orbit(4, 25.0, 2.0, azimuth)
    seen, _ = aware.render(local, cameras.reconstruction_cameras(orbit), RENDERING)
    in_world = aware.in_world(local, orbit)
    again, _ = aware.render(in_world, orbit, RENDERING)
    assert seen.std() > 0.05
    assert (seen - again).abs().mean() < 1e-4
    assert (in_world.quats.norm(dim=-1) - 1).abs().max() < 1e-5


def test_samples_are_rendered_with_their_own_cameras() -> None:
    both = cloud(batch=2)
    orbits = torch.stack([cameras.orbit(3, 10.0, 2.0), cameras.orbit(3, 40.0, 1.8, 30.0)])
    together, _ = aware.render(both, orbits, RENDERING)
    for i in range(2):
        alone, _ = aware.render(Gaussians(*(field[i : i + 1] for field in both)), orbits[i], RENDERING)
        assert (together[i] - alone[0]).abs().max() < 1e-6


def test_linear_blending_mixes_light_and_display_blending_mixes_values() -> None:
    """A big half-transparent white splat over black: half the light is not half the value."""
    white = Gaussians(
        means=torch.zeros(1, 1, 3),
        opacities=torch.full((1, 1), 0.5),
        scales=torch.full((1, 1, 3), 0.5),
        quats=torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]),
        rgb=torch.ones(1, 1, 3),
    )
    orbit = cameras.orbit(1, 0.0, 2.0)
    for blending, expected in (("display", 0.5), ("linear", 0.7354)):
        settings = aware.SplatRendering(40.0, 33, 0.0, blending)
        rgb, alpha = aware.render(white, orbit, settings)
        assert alpha[0, 0, 0, 16, 16] == pytest.approx(0.5, abs=1e-3)
        assert rgb[0, 0, 0, 16, 16] == pytest.approx(expected, abs=1e-3)


def test_background_is_given_in_srgb_whatever_the_blending() -> None:
    nothing = Gaussians(*(field[:, :0] for field in cloud()))
    orbit = cameras.orbit(2, 0.0, 2.0)
    for blending in ("display", "linear"):
        rgb, alpha = aware.render(nothing, orbit, aware.SplatRendering(40.0, 16, 0.25, blending))
        assert alpha.max() == 0
        assert rgb.sub(0.25).abs().max() < 1e-6


def test_transfer_functions_undo_each_other_and_have_finite_gradients() -> None:
    values = torch.linspace(0, 1, 101, requires_grad=True)
    there_and_back = linear_to_srgb(srgb_to_linear(values))
    assert (there_and_back - values).abs().max() < 1e-5
    there_and_back.sum().backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()


def test_step_treats_every_sample_as_an_object_of_its_own() -> None:
    net = LGM(
        input_size=32,
        down_channels=(32, 64),
        down_attention=(False, True),
        up_channels=(64,),
        up_attention=(False,),
        attention_heads=4,
    ).eval()
    orbit = cameras.orbit(8, 20.0, 2.0)
    x0 = torch.rand(2, 3, 8, 16, 16, generator=torch.Generator().manual_seed(0))

    def step(x0: Tensor) -> aware.Refined:
        return aware.three_d_aware_step(
            x0,
            orbit,
            decode=lambda z: torch.nn.functional.interpolate(z, scale_factor=2),
            encode=lambda images: images[..., ::2, ::2],
            reconstructor=net,
            input_views=(0, 2, 4, 6),
            rendering=RENDERING,
        )

    with torch.no_grad():
        both, second = step(x0), step(x0[1:])
    assert both.latents.shape == x0.shape
    assert both.renders.shape == (2, 8, 3, 32, 32)
    assert (both.latents[1:] - second.latents).abs().max() < 1e-4
    assert torch.equal(both.latents, both.renders.transpose(1, 2)[..., ::2, ::2])
