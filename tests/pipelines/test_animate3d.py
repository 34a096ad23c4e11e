"""Views that are made and then animated, on tiny random networks: their conditioning, and what stays."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.free_init_utils import FreeInitMixin
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from backend.gaussians.tracking import Effort
from backend.install.published_settings import SETTINGS
from backend.pipelines import animate3d, dynamic_splats, generate, image_source, orbits, schedules
from backend.pipelines.conditioning import Conditioning
from backend.pipelines.denoise import Sampling, denoise
from backend.pipelines.model import ViewsModel
from backend.pipelines.settings import ModelSettings
from backend.shared import asset
from backend.shared.model_store import STARTER
from backend.shared.ply import read_ply
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest

REQUEST = GenerationRequest("a red car", "animate3d", seed=4, preset="full")


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch):
    """Puts a tiny model in place of those on disk."""
    monkeypatch.setattr(generate, "require", lambda name: STARTER)
    return lambda model: monkeypatch.setattr(generate, "loaded", lambda *_: model)


@torch.no_grad()
def animated(
    model: ViewsModel, request: GenerationRequest = REQUEST, progress: Progress | None = None
) -> tuple[Tensor, list[dict[str, Any]]]:
    """The latents of the video, and the network's arguments at each evaluation."""
    calls: list[dict[str, Any]] = []

    def listen(net: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        names = ("sample", "timestep", "encoder_hidden_states", "camera")
        calls.append(dict(zip(names, args, strict=False)) | kwargs)

    handle = model.unet.register_forward_pre_hook(listen, with_kwargs=True)
    try:
        cameras = orbits.view_cameras(model.settings, model.settings.num_views)
        return animate3d.video(model, request, cameras, progress or Progress(), lambda *_: None), calls
    finally:
        handle.remove()


def test_the_first_frame_is_made_without_motion_and_kept_through_every_round(tiny_animating_model):
    latents, calls = animated(tiny_animating_model)
    settings = tiny_animating_model.settings
    first, rest = calls[:3], calls[3:]
    assert len(rest) == settings.rounds * settings.steps == 4
    assert all(call["motion"] is False and call["sample"].shape[2] == 1 for call in first)
    assert all(call["sample"].shape == (2, 4, 3, 4, 8, 8) for call in rest)
    kept = latents[:, :, 0]
    assert all(torch.equal(call["sample"][0, :, 0], kept[0]) for call in rest)
    assert {call["timestep"] for call in rest} == {1, 501}
    dynamic_splats = latents[:, :, 1:]
    assert (dynamic_splats - kept[:, :, None]).abs().max() > 0.1 and latents.isfinite().all()


@torch.no_grad()
def test_the_conditional_row_sees_the_images_on_grey_and_the_other_row_nothing(
    tiny_animating_model, monkeypatch
):
    model, made = tiny_animating_model, []
    first_frame = animate3d._first_frame
    monkeypatch.setattr(animate3d, "_first_frame", lambda *args: made.append(first_frame(*args)) or made[0])
    latents, calls = animated(model)
    before_grey = animate3d.with_background(made[0], animate3d.GREY)
    assert (before_grey - made[0]).abs().max() > 0.01
    assert torch.equal(latents[0, :, 0], model.encode(before_grey))
    seen = calls[-1]["image_embeddings"]  # [2, V, D]
    assert torch.equal(seen[1], model.encode_image(before_grey, "bicubic")[:, 0])
    assert torch.equal(seen[0], torch.zeros_like(seen[0])) and (seen[1] != 0).any()
    assert "image_embeddings" not in calls[0]  # MVDream is conditioned on text alone
    text = [call["encoder_hidden_states"] for call in (calls[0], calls[-1])]
    assert not torch.equal(text[0][1], text[1][1])  # it has a suffix, Animate3D none


def test_the_seed_decides_the_video(tiny_animating_model):
    one, again = (animated(tiny_animating_model)[0] for _ in range(2))
    other, _ = animated(tiny_animating_model, dataclasses.replace(REQUEST, seed=5))
    assert torch.equal(one, again)
    assert (one - other).abs().max() > 0.1


def test_guidance_one_branch_at_a_time_gives_the_same_video(tiny_animating_model):
    plan = dataclasses.replace(tiny_animating_model.plan, batch_cfg=False)
    apart, calls = animated(dataclasses.replace(tiny_animating_model, plan=plan))
    assert len(calls[-1]["sample"]) == 1
    assert (animated(tiny_animating_model)[0] - apart).abs().max() < 1e-3


def test_rounds_begin_where_diffusers_free_init_does():
    """diffusers' own loop over latents [B, C, F, h, w], of the frames after the first."""
    noise = torch.randn(1, 2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    given: list[Tensor] = []

    def video(start: Tensor, number: int) -> Tensor:
        given.append(start)
        return start * 0.3 + number

    made = animate3d.free_init(video, noise, schedules.ANIMATE3D, rounds=3, seed=7)
    assert torch.equal(given[0], noise) and torch.equal(made, given[2] * 0.3 + 3)

    pipeline = FreeInitMixin()
    pipeline.scheduler = DDIMScheduler(**schedules.ANIMATE3D)
    pipeline.enable_free_init(num_iters=3)
    generator = animate3d.generator_for(7, "rounds")
    latents = noise[0, :, 1:].transpose(1, 2)  # [V, C, F - 1, h, w]
    for number in range(3):
        latents, _ = pipeline._apply_free_init(latents, number, 25, "cpu", torch.float32, generator)
        assert torch.allclose(given[number][0, :, 1:].transpose(1, 2), latents, atol=1e-5)
        latents = latents * 0.3 + number + 1


def test_what_is_slow_and_coarse_goes_on_to_the_next_round():
    noise = torch.randn(1, 1, 9, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    given: list[Tensor] = []
    animate3d.free_init(lambda start, _: given.append(start) or start, noise, schedules.ANIMATE3D, 2, seed=1)
    one, two = (torch.fft.fftn(start[0, 0, 1:, 0]) for start in given)
    coarse = (one[0, :2, :2] - two[0, :2, :2]).norm() / one[0, :2, :2].norm()
    fine = (one[4, 7:9, 7:9] - two[4, 7:9, 7:9]).norm() / one[4, 7:9, 7:9].norm()
    assert coarse < 0.5 * fine


def disc(background: float, ramp: float = 0.0) -> np.ndarray:  # [64, 64, 3]
    """A red disc of radius 16 with the background's colour in its middle; it may brighten to the right."""
    radius = np.hypot(*(np.mgrid[:64, :64] - 31.5))[..., None]
    inside = np.clip(16.5 - radius, 0, 1) * (radius >= 4)
    around = np.broadcast_to(background + ramp * np.mgrid[:64, :64][1][..., None] / 64, (64, 64, 3))
    return (inside * [0.8, 0.1, 0.1] + (1 - inside) * around).astype(np.float32)


def test_objects_stand_before_another_grey_and_what_is_inside_is_kept():
    changed = image_source.with_background(disc(0.9), animate3d.GREY)
    radius = np.hypot(*(np.mgrid[:64, :64] - 31.5))
    assert np.allclose(changed[radius > 18], animate3d.GREY, atol=1e-6)
    assert np.array_equal(changed[radius < 15], disc(0.9)[radius < 15])  # its middle is no background
    images = torch.from_numpy(np.stack([disc(0.9), disc(0.2)])).movedim(-1, 1).unflatten(0, (2, 1))
    several = animate3d.with_background(images, animate3d.GREY)
    assert several.shape == (2, 1, 3, 64, 64)
    assert np.array_equal(several[0, 0].movedim(0, -1).numpy(), changed)


def test_background_that_is_not_plain_is_said():
    progress = Progress()
    plain, uneven = (torch.from_numpy(disc(0.5, ramp)).movedim(-1, 0)[None] for ramp in (0.0, 0.5))
    animate3d._on_grey(plain, progress)
    assert not progress.warnings
    animate3d._on_grey(torch.cat([plain, uneven]), progress)
    assert "not of one colour" in progress.warnings[0]


def test_settings_of_the_first_frame_are_those_of_mvdream():
    published = SETTINGS["animate3d"]
    settings = ModelSettings(**published)
    first, mvdream = settings.of_first_frame(), ModelSettings(**SETTINGS["mvdream-lgm"])
    assert first == dataclasses.replace(mvdream, elevation_deg=15.0)
    assert (settings.steps, settings.guidance, settings.rounds, settings.num_frames) == (25, 7.5, 3, 16)
    assert settings.schedule["beta_schedule"] == "linear" and settings.schedule["set_alpha_to_one"]
    assert (settings.prompt_suffix, settings.negative_prompt) == ("", "")


def test_settings_survive_the_file(tmp_path: Path):
    settings = ModelSettings(**SETTINGS["animate3d"])
    settings.write(tmp_path)
    assert ModelSettings.read(tmp_path).of_first_frame().schedule == schedules.MVDREAM


def test_prompt_becomes_an_asset_of_the_same_splats_in_every_frame(
    use, tiny_animating_model, tmp_path, monkeypatch
):
    use(tiny_animating_model)
    monkeypatch.setattr(dynamic_splats, "track", partial(dynamic_splats.track, effort=Effort(2, 1, 1, 1, 1)))
    stages: list[str] = []
    progress = Progress(lambda event, fields: stages.append(fields["stage"]) if event == "stage" else None)
    (tmp_path / "asset").mkdir()
    request = GenerationRequest("a red car", "animate3d", frames=2, steps=2)
    made = asset.read_asset(generate.generate(request, tmp_path / "asset", progress))
    assert made.tracked and made.model == "animate3d"
    assert [len(view) for view in made.views] == [2] * 4
    assert len({len(read_ply(path)) for path in made.splats}) == 1 and len(made.splats) == 2
    assert stages[1:4] == [
        "Generating the first frame",
        "Denoising the video, 1 of 2",
        "Denoising the video, 2 of 2",
    ]
    assert not any("not trained" in warning for warning in progress.warnings)


@pytest.mark.parametrize("stage", ["Generating the first frame", "Denoising the video, 2 of 2"])
def test_cancel_leaves_nothing(use, tiny_animating_model, tmp_path, stage):
    use(tiny_animating_model)
    (tmp_path / "asset").mkdir()

    def listen(event: str, fields: dict[str, Any]) -> None:
        if fields.get("stage") == stage and fields.get("step") == 1:
            progress.cancel()

    progress = Progress(listen)
    with pytest.raises(DioramaError, match="cancelled"):
        generate.generate(
            GenerationRequest("a car", "animate3d", preset="full"), tmp_path / "asset", progress
        )
    assert not list((tmp_path / "asset").iterdir())


def test_more_frames_than_the_model_knows_are_refused_before_the_first_is_made(tiny_animating_model):
    stages: list[dict[str, Any]] = []
    progress = Progress(lambda event, fields: stages.append(fields))
    with pytest.raises(DioramaError, match="5 frames; this model's motion has at most 4"):
        animated(tiny_animating_model, dataclasses.replace(REQUEST, frames=5), progress)
    assert not stages


@torch.no_grad()
def test_a_given_first_frame_is_the_first_frame(tiny_animating_model):
    cameras = orbits.view_cameras(tiny_animating_model.settings, 4)
    words = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(1, 4, 3, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    first = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    estimates: list[Tensor] = []
    given = tiny_animating_model, Conditioning(words), noise, cameras, Sampling(2, 3.0)
    video = denoise(*given, first_frame=first, on_step=lambda i, x0: estimates.append(x0))
    assert torch.equal(video[:, :, 0], first)
    assert all(torch.equal(x0[:, :, 0], first) for x0 in estimates)
    free = denoise(*given)
    assert (free - video)[:, :, 1:].abs().max() > 0.01  # the other frames look at it
