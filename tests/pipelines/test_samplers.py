"""The samplers in the loop: multistep solvers come nearer in as many steps, also where views are replaced."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from backend import cameras
from backend.pipelines import denoise as denoising
from backend.pipelines import schedules
from backend.pipelines.conditioning import Conditioning
from backend.pipelines.denoise import Sampling, denoise
from backend.pipelines.model import ViewsModel
from backend.pipelines.samplers import SAMPLERS, scheduler_of
from backend.pipelines.settings import ModelSettings, Preset
from backend.shared.request import PRESETS, GenerationRequest
from tests.tiny import model_around

SPREAD = 1.0  # of the data, about 0: that of latents
ORBIT = cameras.orbit(4, 20.0, 2.0)
SCHEDULES = [schedules.STARTER, schedules.VIDEOMV_TEXT, schedules.VIVID_ZOO]


class GaussianData(ViewsModel):
    """The perfect denoiser of normally distributed data, whose trajectories are known in closed form."""

    def predict(self, latents: Tensor, timestep: int, *_: Any, **__: Any) -> Tensor:
        scheduler = scheduler_of("dpm++", self.settings.schedule, 10)
        signal = float(scheduler.alphas_cumprod[timestep])
        x0 = latents * signal**0.5 * SPREAD**2 / (signal * SPREAD**2 + 1 - signal)
        return schedules.prediction_from_x0(scheduler, x0, timestep, latents)


def sample(schedule: dict[str, Any], sampling: Sampling, **options: Any) -> tuple[Tensor, Tensor]:
    model = GaussianData(**vars(model_around(None, schedule=schedule)))
    noise = torch.randn(1, 4, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return noise, denoise(model, Conditioning(torch.zeros(2, 1, 1)), noise, ORBIT, sampling, **options)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_multistep_solvers_come_nearer_to_the_end_of_the_trajectory(schedule: dict[str, Any]) -> None:
    def error(sampler: Any, steps: int) -> float:
        noise, made = sample(schedule, Sampling(steps, 1.0, sampler=sampler))
        return float((made - SPREAD * noise).square().mean().sqrt()) / SPREAD

    long, short = error("ddim", 100), error("ddim", 10)
    for sampler in ("unipc", "dpm++"):
        assert error(sampler, 10) < 0.5 * short
        assert error(sampler, 25) < long + 0.01


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_step_from_replaced_views_goes_straight_to_them(
    sampler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was estimated before, and the jump from it, are not in the step; the solver keeps the views."""
    views = torch.full((1, 4, 1, 4, 8, 8), 0.3)
    kept: list[Any] = []
    monkeypatch.setattr(denoising, "one_object_per_frame", lambda model, x0, *_: views.expand_as(x0))
    monkeypatch.setattr(
        denoising, "scheduler_of", lambda *given: kept.append(scheduler_of(*given)) or kept[-1]
    )
    places: list[Tensor] = []
    step = denoising.predict

    def look(model: Any, batch: Tensor, *rest: Any) -> Tensor:
        places.append(batch[:1])
        return step(model, batch, *rest)

    monkeypatch.setattr(denoising, "predict", look)

    def after(i: int, x0: Tensor) -> None:
        if i == 6:
            assert torch.allclose(x0, views, atol=1e-4)
            if sampler != "ddim":
                assert torch.allclose(kept[0].model_outputs[-1], views, atol=1e-4)

    sample(schedules.STARTER, Sampling(10, 1.0, (0.5,), sampler=sampler), on_step=after)
    scheduler = kept[0]
    signal, after_it = (float(scheduler.alphas_cumprod[t]) for t in scheduler.timesteps[5:7])
    noise = (places[5] - signal**0.5 * views) / (1 - signal) ** 0.5
    assert torch.allclose(places[6], after_it**0.5 * views + (1 - after_it) ** 0.5 * noise, atol=1e-3)


@pytest.mark.parametrize(("steps", "aware"), [(25, {12, 18, 22}), (16, {8, 11, 13}), (8, {4, 5}), (1, {0})])
def test_views_are_sharpened_after_the_last_3d_aware_step(steps: int, aware: set[int]) -> None:
    assert Sampling(steps, 2.0, (0.5, 0.7, 0.9)).aware_steps == aware


def test_presets_are_kept_with_the_weights_and_flags_go_before_them(tiny_model: ViewsModel) -> None:
    settings = tiny_model.settings
    assert settings.preset("full") == Preset("ddim", settings.steps)
    few = dataclasses.replace(
        settings, presets={"draft": Preset("unipc", 5, True), "standard": Preset("dpm++", 9)}
    )
    assert ModelSettings.from_dict(dataclasses.asdict(few)) == few
    draft = Sampling.of(GenerationRequest("a car", preset="draft"), few)
    assert (draft.sampler, draft.steps, draft.cache) == ("unipc", 5, few.fast)
    usual = Sampling.of(GenerationRequest("a car", steps=7, fast=True), few)
    assert (usual.sampler, usual.steps, usual.cache) == ("dpm++", 7, few.fast)
    full = Sampling.of(GenerationRequest("a car", preset="full"), few)
    assert (full.sampler, full.steps, full.cache) == ("ddim", settings.steps, None)
    own = dataclasses.replace(few, presets={**few.presets, "full": Preset("unipc", 3)})
    assert own.preset("full") == Preset("unipc", 3)
    for name in PRESETS:
        assert settings.preset(name).steps <= 25  # of models that were installed before there were presets


@pytest.mark.parametrize("sampler", ["unipc", "dpm++"])
def test_first_frame_stays_and_the_rest_is_repeatable(sampler: Any) -> None:
    first = torch.full((1, 4, 4, 8, 8), 0.2)
    given = Sampling(6, 1.0, sampler=sampler)
    (_, one), (_, again) = (sample(schedules.ANIMATE3D, given, first_frame=first) for _ in range(2))
    assert torch.equal(one, again) and torch.equal(one[:, :, 0], first)
