"""Distillation: its gradient is the published one, and it leads to what the model would draw."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from backend.cameras import orbit, turned
from backend.pipelines import distill, generate, model_cache, orbits, views
from backend.pipelines.conditioning import condition_on_text
from backend.pipelines.denoise import Sampling, denoise
from backend.pipelines.model import ViewsModel, load
from backend.pipelines.noise import initial_noise
from backend.pipelines.offload import offload
from backend.pipelines.plan import Plan
from backend.shared import asset
from backend.shared.model_store import STARTER
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest


@pytest.fixture(scope="module")
def starter() -> ViewsModel:
    return load(STARTER)


@pytest.fixture
def out(tmp_path: Path, tiny_model: ViewsModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The asset folder, which whoever runs the job has made; the model is a tiny one."""
    monkeypatch.setattr(generate, "loaded", lambda *_: tiny_model)
    (tmp_path / "asset").mkdir()
    return tmp_path / "asset"


@pytest.mark.parametrize("timestep", [20, 500, 980])
def test_gradient_is_that_of_score_distillation(tiny_model: ViewsModel, timestep: int) -> None:
    """Equation 3 of DreamFusion: w(t) (predicted noise - noise) dx/dtheta, here with w = sigma / alpha."""
    cameras, guidance = orbits.view_cameras(tiny_model.settings, 4), 3.0
    conditioning = condition_on_text(tiny_model, ["a red car"])
    scheduler = DDIMScheduler(**tiny_model.settings.schedule)
    generator = torch.Generator().manual_seed(1)
    theta = torch.rand(4, 3, 32, 32, generator=generator, requires_grad=True)
    noise = torch.randn(1, 4, 1, 4, 8, 8, generator=generator)

    def latents_of(images: Tensor) -> Tensor:
        return tiny_model.encode(images)[None, :, None]

    latents = latents_of(theta)
    wanted = distill.clean_views(
        tiny_model,
        scheduler,
        conditioning,
        latents,
        noise,
        timestep,
        cameras,
        guidance,
        Progress(),
        rescale=0.0,
    )
    (found,) = torch.autograd.grad(distill.distance(latents, wanted), theta)

    alpha, sigma = (float(part) ** 0.5 for part in _signal_and_noise(scheduler, timestep))
    with torch.no_grad():
        noisy = alpha * latents + sigma * noise
        v = tiny_model.predict(torch.cat([noisy, noisy]), timestep, conditioning.context, cameras, {})
        without, described = alpha * v + sigma * noisy  # the noise that a prediction of v amounts to
        predicted = without + guidance * (described - without)
        weighted = sigma / alpha * (predicted - noise)
    (expected,) = torch.autograd.grad(latents_of(theta), theta, weighted)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("plan", [Plan(images_at_once=2), Plan(images_at_once=3, offload="sequential")])
def test_gradient_is_the_same_however_many_images_are_encoded_at_once(
    tiny_model: ViewsModel, plan: Plan
) -> None:
    apart = dataclasses.replace(copy.deepcopy(tiny_model), plan=plan)
    offload({str(i): network for i, network in enumerate(apart.networks)}, plan)
    batches: list[int] = []
    apart.autoencoder.encoder.register_forward_pre_hook(lambda net, args: batches.append(len(args[0])))
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1), requires_grad=True)
    weights = torch.rand(4, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    found = [
        torch.autograd.grad((distill.encode(model, images) * weights).sum(), images)[0]
        for model in (tiny_model, apart)
    ]
    torch.testing.assert_close(found[1], found[0])
    parts = [2, 2] if plan.images_at_once == 2 else [3, 1]
    assert batches == parts + parts[::-1]  # and again for the gradients, those of the last part first


def test_model_that_only_moves_cannot_be_distilled(
    out: Path, tiny_moving_model: ViewsModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "read_settings", lambda folder: tiny_moving_model.settings)
    with pytest.raises(DioramaError, match="distilled ones stand still") as caught:
        generate.generate(GenerationRequest("a car", method="distill"), out, Progress())
    assert caught.value.code == "E_REQUEST"


def _signal_and_noise(scheduler: DDIMScheduler, timestep: int) -> tuple[float, float]:
    part = float(scheduler.alphas_cumprod[timestep])
    return part, 1 - part


def test_rescaling_takes_back_the_contrast_of_guidance(tiny_model: ViewsModel) -> None:
    cameras = orbits.view_cameras(tiny_model.settings, 4)
    conditioning = condition_on_text(tiny_model, ["a red car"])
    scheduler = DDIMScheduler(**tiny_model.settings.schedule)
    generator = torch.Generator().manual_seed(1)
    latents, noise = (torch.randn(1, 4, 1, 4, 8, 8, generator=generator) for _ in range(2))
    spread = [
        distill.clean_views(
            tiny_model, scheduler, conditioning, latents, noise, 500, cameras, guidance, Progress(), rescale
        ).std()
        for guidance, rescale in ((1.0, 0.0), (100.0, 0.0), (100.0, 1.0))
    ]
    assert spread[1] > 1.1 * spread[0]
    torch.testing.assert_close(spread[2], spread[0])


def test_turned_orbit_is_one_that_starts_elsewhere() -> None:
    torch.testing.assert_close(
        turned(orbit(8, 15.0, 1.9), math.radians(22.5)), orbit(8, 15.0, 1.9, azimuth_start_deg=22.5)
    )


@torch.no_grad()
def drawn(model: ViewsModel, prompt: str, cameras: Tensor) -> Tensor:
    """What the model draws, less the grey behind it: [V, 3, H, W]."""
    conditioning, noise = condition_on_text(model, [prompt]), initial_noise(model, len(cameras), 1)
    latents = denoise(model, conditioning, noise, cameras, Sampling(8, model.settings.guidance))
    return model.decode_frames(latents[0])[:, 0] - model.settings.rendering.background


def test_few_steps_lead_towards_what_the_model_draws(starter: ViewsModel, one_thread: None) -> None:
    cameras = orbits.view_cameras(starter.settings, 4)
    asked, other = (drawn(starter, prompt, cameras) for prompt in ("a red mushroom", "a blue car"))
    conditioning = condition_on_text(starter, ["a red mushroom"])
    cloud = distill.distill(starter, conditioning, cameras, Sampling(40, starter.settings.guidance), seed=0)
    rgba = distill.views_of(starter, cloud, cameras)
    made = (rgba[:, :3] - starter.settings.rendering.background) * rgba[:, 3:]
    alike, unlike = (
        torch.corrcoef(torch.stack([made.flatten(), drawing.flatten()]))[0, 1] for drawing in (asked, other)
    )
    assert alike > 0.25 and alike > unlike + 0.1
    assert (made - asked).square().mean() < 0.95 * asked.square().mean()  # nearer than the grey it began as


def test_distilled_asset_shows_what_its_cameras_see(out: Path) -> None:
    request = GenerationRequest("a red car", method="distill", views=4, steps=3)
    told: list[tuple[str, dict[str, Any]]] = []
    made = asset.read_asset(
        generate.generate(request, out, Progress(lambda event, fields: told.append((event, fields))))
    )
    assert made.request == request.to_dict() and len(made.views) == 4
    steps = [fields["step"] for event, fields in told if event == "progress"]
    assert steps == [1, 2, 3]
    assert "preview" in [event for event, _ in told]
    assert not list(out.glob("*partial*"))


def test_loaded_model_is_distilled_whether_it_has_made_views_before_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "_MOST_STEPS", 2)  # to save time
    (tmp_path / "asset").mkdir()
    for method in ("distill", "reconstruct", "distill"):
        request = GenerationRequest("a red car", method=method, views=4, steps=1)
        assert asset.read_asset(generate.generate(request, tmp_path / "asset", Progress())).request
    model_cache.forget()


def test_same_seed_gives_the_same_splats(out: Path, tiny_model: ViewsModel, one_thread: None) -> None:
    conditioning = condition_on_text(tiny_model, ["a red car"])
    cameras = orbits.view_cameras(tiny_model.settings, 4)
    one, again, other = (
        distill.distill(tiny_model, conditioning, cameras, Sampling(3, 3.0), seed).means for seed in (4, 4, 5)
    )
    assert (one == again).all()
    assert not (one == other).all()


def test_cancelled_distillation_leaves_nothing_within_a_step(out: Path) -> None:
    steps: list[int] = []

    def listen(event: str, fields: dict[str, Any]) -> None:
        if event == "progress":
            steps.append(fields["step"])
            progress.cancel()

    progress = Progress(listen)
    with pytest.raises(DioramaError, match="E_CANCELLED"):
        generate.generate(GenerationRequest("a car", method="distill", steps=6), out, progress)
    assert steps == [1]
    assert not list(out.iterdir())
