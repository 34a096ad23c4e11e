"""Text to multi-view video on tiny random networks: repeatable, consistent where asked, and stoppable."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from backend import cameras
from backend.models.lgm import LGM, Gaussians
from backend.pipelines import denoise as denoising
from backend.pipelines.conditioning import Conditioning
from backend.pipelines.denoise import Sampling, denoise
from backend.pipelines.model import ViewsModel
from backend.pipelines.plan import Plan
from backend.pipelines.three_d_aware import SplatRendering, render
from backend.pipelines.vivid_zoo import warn_if_not_aligned
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from tests.tiny import model_around, moving_unet

VIEWS, FRAMES, SIDE, STEPS = 4, 3, 8, 3
ORBIT = cameras.orbit(VIEWS, 20.0, 2.0)
FIRST = (0.0,)  # of the steps


class ImagesAsLatents(ViewsModel):
    """Latents that are images, so that what a step gives can be compared with renders."""

    def decode(self, latents: Tensor, progress: Progress | None = None) -> Tensor:
        return (latents[:, :3] + 1) / 2

    def encode(self, images: Tensor) -> Tensor:
        return torch.cat([2 * images - 1, images[:, :1]], 1)


@pytest.fixture(scope="module")
def model() -> ViewsModel:
    unet = moving_unet(busy=("proj_out", ".align_"), std=0.1, motion_max_frames=8)
    torch.manual_seed(1)
    net = LGM(
        input_size=SIDE,
        down_channels=(32, 64),
        down_attention=(False, True),
        up_channels=(64,),
        up_attention=(False,),
        attention_heads=4,
    ).eval()
    rendering = SplatRendering(fov_deg=40.0, size_px=2 * SIDE, background=0.5, blending="display")
    around = model_around(unet, rendering=rendering)
    return ImagesAsLatents(**vars(around) | {"reconstructor": net})


def video(
    model: ViewsModel,
    seed: int = 0,
    guidance: float = 3.0,
    three_d_aware: tuple[float, ...] = (),
    **options: Any,
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, VIEWS, FRAMES, 4, SIDE, SIDE, generator=generator)
    words = torch.randn(2, 1, 5, 16, generator=torch.Generator().manual_seed(9))
    conditioning = Conditioning(words.flatten(0, 1).flip(0))
    return denoise(model, conditioning, noise, ORBIT, Sampling(STEPS, guidance, three_d_aware), **options)


def in_turn(model: ViewsModel) -> ViewsModel:
    """The same, whose guidance batch is evaluated in halves."""
    return dataclasses.replace(model, plan=Plan(batch_cfg=False))


def test_the_noise_decides_the_video(model):
    one, again, other = video(model), video(model), video(model, seed=1)
    assert one.shape == (1, VIEWS, FRAMES, 4, SIDE, SIDE) and one.isfinite().all()
    assert torch.equal(one, again)
    assert (one - other).abs().max() > 0.1


def test_guidance_one_branch_at_a_time_gives_the_same_video(model):
    together, apart = video(model), video(in_turn(model))
    assert (together - apart).abs().max() < 1e-4
    assert (together - video(model, guidance=1.0)).abs().max() > 0.01


def test_each_frame_becomes_the_views_of_one_object(model, monkeypatch):
    reconstructed: list[Gaussians] = []
    gaussians = model.reconstructor.gaussians
    monkeypatch.setattr(denoising, "OBJECTS_AT_ONCE", 1)
    monkeypatch.setattr(
        model.reconstructor,
        "gaussians",
        lambda features: reconstructed.append(gaussians(features)) or reconstructed[-1],
    )
    estimates: list[Tensor] = []
    aware = video(model, guidance=1.0, three_d_aware=FIRST, on_step=lambda step, x0: estimates.append(x0))
    assert len(estimates) == STEPS and len(reconstructed) == 2 * FRAMES  # uncond, then cond
    places = cameras.reconstruction_cameras(ORBIT)
    for frame, cloud in enumerate(reconstructed[FRAMES:]):
        views, _ = render(cloud, places, model.settings.rendering)
        shown = model.decode(estimates[0][0, :, frame])
        assert (shown - views[0, :, :, ::2, ::2]).abs().max() < 1e-4
        assert views.std() > 0.01
    assert (aware - video(model, guidance=1.0)).abs().max() > 0.1


def test_how_many_objects_are_reconstructed_at_once_changes_nothing(model, monkeypatch):
    four = video(model, three_d_aware=FIRST)
    monkeypatch.setattr(denoising, "OBJECTS_AT_ONCE", 1)
    assert (video(model, three_d_aware=FIRST) - four).abs().max() < 1e-3


@pytest.mark.parametrize("apart", [False, True])
def test_cancel_is_obeyed_within_one_evaluation_of_the_network(model, apart):
    events, evaluations = [], []
    progress = Progress(lambda event, fields: events.append((event, fields.get("step"))))

    def after(*_: object) -> None:
        evaluations.append(1)
        progress.cancel()

    handle = model.unet.register_forward_hook(after)
    try:
        with pytest.raises(DioramaError) as caught:
            video(in_turn(model) if apart else model, progress=progress)
    finally:
        handle.remove()
    assert caught.value.code == "E_CANCELLED"
    assert len(evaluations) == 1 and ("progress", 1) not in events


def test_every_step_is_reported(model):
    steps = []
    video(model, progress=Progress(lambda event, fields: steps.append(fields.get("step"))))
    assert steps == [1, 2, 3]


def test_untrained_alignment_is_said(model):
    progress, unet = Progress(), model.unet
    warn_if_not_aligned(model, progress)
    assert not progress.warnings
    kept = {name: p.detach().clone() for name, p in unet.alignment().items()}
    with torch.no_grad():
        for parameter in unet.alignment().values():
            parameter.zero_()
    warn_if_not_aligned(model, progress)
    unet.load_state_dict(kept, strict=False)
    assert len(progress.warnings) == 1 and "alignment" in progress.warnings[0]


def test_sizes_that_the_network_cannot_make_are_refused_in_words(model):
    conditioning, noise = Conditioning(torch.zeros(2, 5, 16)), torch.zeros(1, VIEWS, 9, 4, SIDE, SIDE)
    with pytest.raises(DioramaError, match="9 frames; this model's motion has at most 8"):
        denoise(model, conditioning, noise, ORBIT, Sampling(2, 1.0))
    with pytest.raises(DioramaError, match="3 cameras for 4 views"):
        denoise(model, conditioning, noise[:, :, :2], ORBIT[:3], Sampling(2, 1.0))
