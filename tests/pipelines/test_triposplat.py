"""TripoSplat's loop: one token in place of many, reproducible points, the image's camera."""

from __future__ import annotations

import copy
import dataclasses
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.models.lgm import Gaussians
from backend.models.triposplat_decoder import TripoSplatDecoder
from backend.models.triposplat_flow import Context, TripoSplatFlow
from backend.pipelines import generate, octree, triposplat, triposplat_image, triposplat_model
from backend.pipelines.triposplat_model import TripoSplatSettings
from backend.seeds import generator_for
from backend.shared import asset
from backend.shared.ply import read_ply
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest


@pytest.fixture(scope="module")
def flow() -> TripoSplatFlow:
    torch.manual_seed(0)
    net = TripoSplatFlow(
        latent_tokens=12, latent_channels=4, appearance_channels=6, detail_channels=5, width=64, num_heads=1,
        num_blocks=2, num_refiner_blocks=1, mlp_ratio=1,
    )  # fmt: skip
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-11), (torch.float32, 5e-6)])
def test_one_token_stands_for_all_equal_ones_of_the_unconditional_branch(
    flow: TripoSplatFlow, dtype: torch.dtype, most: float
) -> None:
    flow = copy.deepcopy(flow).to(dtype)  # in float64 they are the same; in float32 sums of 4101 are rounded
    count = 4101
    whole = flow.encode_context(torch.zeros(1, count, 6), torch.zeros(1, count, 5))
    one = Context(flow.encode_context(torch.zeros(1, 1, 6), torch.zeros(1, 1, 5)).tokens, count)
    torch.manual_seed(0)
    noise = torch.randn(1, 12, 4, dtype=dtype), torch.randn(1, 1, 5, dtype=dtype), torch.tensor([700.0])
    for exact, saved in zip(flow(*noise, whole), flow(*noise, one), strict=True):
        assert (exact - saved).abs().max() < most
    uncounted = flow(*noise, Context(one.tokens))[0]
    assert (uncounted - flow(*noise, one)[0]).abs().max() > 1e-4


def test_points_are_the_same_for_the_same_seed_and_lie_where_the_shares_say() -> None:
    torch.manual_seed(0)
    decoder = TripoSplatDecoder(width=12, num_heads=1, octree_blocks=1, gaussian_blocks=1, mlp_ratio=1).eval()
    latent = torch.randn(1, 9, 16)

    def logits(centres: torch.Tensor, resolution: int) -> torch.Tensor:
        return decoder.child_logits(centres[None], torch.tensor([resolution]), latent)[0]

    def points(seed: int) -> torch.Tensor:
        uniform = partial(torch.rand, generator=generator_for(seed, "points"))
        return octree.sample_points(logits, 50, uniform)

    assert torch.equal(points(3), points(3))
    assert not torch.equal(points(3), points(4))

    corner = torch.tensor([-50.0] * 7 + [50.0])
    there = octree.sample_points(lambda centres, _: corner.expand(len(centres), 8), 20, torch.rand)
    assert (there > 1 - 2**-8).all()


def test_times_go_from_noise_to_nothing_and_linger_near_the_noise() -> None:
    times = triposplat.times(20, 3)
    assert times[0] == 1 and times[-1] == 0 and len(times) == 21
    assert times[10] == pytest.approx(0.75)


def test_camera_token_is_the_camera_that_took_the_image() -> None:
    elevation, azimuth, radius, fov = 0.2, 0.3, 1.6, math.radians(40)
    direction = [
        math.cos(elevation) * math.cos(azimuth),
        math.cos(elevation) * math.sin(azimuth),
        math.sin(elevation),
    ]
    token = torch.tensor([*(3 * c for c in direction), 1 / radius, radius * math.tan(fov / 2)])
    camera = triposplat.camera_of(token)
    assert camera.usual
    assert (camera.azimuth, camera.elevation_deg) == pytest.approx((azimuth, math.degrees(elevation)))
    assert (camera.radius, camera.fov_deg) == pytest.approx((radius, 40.0))


@pytest.mark.parametrize(
    "token",
    [
        [1, 0, 0, 0.1, 1],  # 10 away
        [0, 0, 1, 0.6, 1],  # straight above
        [1, 0, 0, 0.6, 0.01],  # a telescope
        [0, 0, 0, 0.6, 1],
        [1, 0, 0, -0.6, 1],
        [math.nan, 0, 0, 0.6, 1],
    ],
)
def test_strange_camera_is_told_from_a_usual_one(token: list[float]) -> None:
    assert not triposplat.camera_of(torch.tensor(token)).usual


def test_turned_cloud_turns_places_and_rotations_alike() -> None:
    means, scales = torch.tensor([[[0.4, 0.0, 0.1]]]), torch.tensor([[[0.1, 0.02, 0.03]]])
    one = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    cloud = triposplat.turned_cloud(
        Gaussians(means, torch.ones(1, 1), scales, one, torch.full((1, 1, 3), 0.5)), math.radians(90)
    )
    assert cloud.means[0] == pytest.approx([0.0, 0.4, 0.1], abs=1e-6)
    assert cloud.quats[0] == pytest.approx([math.sqrt(0.5), 0, 0, math.sqrt(0.5)])


@pytest.fixture
def image(tmp_path: Path) -> str:
    pixels = np.zeros((50, 40, 4), np.uint8)
    pixels[10:40, 12:28] = (200, 40, 40, 255)
    Image.fromarray(pixels).save(tmp_path / "object.png")
    return str(tmp_path / "object.png")


def test_image_becomes_an_asset_whose_first_view_is_its_own_camera(
    root: Path, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "require", lambda name: root / name)
    token = torch.tensor([1.0, 0.3, 0.2, 1 / 1.5, 1.5 * math.tan(math.radians(20))])
    strange = torch.full((5,), math.nan)
    made, warnings = [], []
    for seed, said in ((0, token), (0, token), (1, strange)):
        sampled = triposplat.denoise
        monkeypatch.setattr(
            triposplat, "denoise", lambda *a, said=said, sampled=sampled: (sampled(*a)[0], said[None, None])
        )
        progress, request = Progress(), GenerationRequest(image=image, model="triposplat", seed=seed)
        folder = generate.generate(request, tmp_path / str(len(made)), progress)
        monkeypatch.setattr(triposplat, "denoise", sampled)
        made.append(asset.read_asset(folder))
        warnings.append(" ".join(progress.warnings))
    first, again, usual = made
    assert first.blending == "display" and first.front == "+X" and len(first.views) == 3
    assert len(read_ply(first.splats[0])) == 640
    camera = first.cameras[0][:3, 3]
    assert np.linalg.norm(camera) == pytest.approx(1.5, abs=1e-4) and abs(camera[1]) < 1e-4
    assert first.fov_deg == pytest.approx(40, abs=1e-3)
    assert (first.width, first.height) == (24, 24)
    assert Image.open(first.directory / "source/object.png").size == (64, 64)
    assert first.splats[0].read_bytes() == again.splats[0].read_bytes()
    assert first.splats[0].read_bytes() != usual.splats[0].read_bytes()
    assert np.linalg.norm(usual.cameras[0][:3, 3]) == pytest.approx(1.7, abs=1e-4)
    assert "did not understand" in warnings[2] and "did not understand" not in warnings[0]


def test_job_stops_between_the_branches_of_a_step(
    root: Path, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "require", lambda name: root / name)
    progress, calls = Progress(), []
    forward = TripoSplatFlow.forward

    def cancelling(self: TripoSplatFlow, *args: object) -> object:
        calls.append(1)
        progress.cancel()
        return forward(self, *args)

    monkeypatch.setattr(TripoSplatFlow, "forward", cancelling)
    with pytest.raises(DioramaError, match="E_CANCELLED"):
        generate.generate(GenerationRequest(image=image, model="triposplat"), tmp_path / "a", progress)
    assert len(calls) == 1
    assert not (tmp_path / "a" / "asset.json").exists()


@pytest.mark.parametrize("part", ["denoise", "sample_points", "render_rgba"])
def test_memory_that_runs_out_at_any_stage_leads_to_the_next_plan_once(
    root: Path, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(generate, "require", lambda name: root / name)
    monkeypatch.setattr(triposplat_model, "WORKSPACE_BYTES", 0)  # beside which a small model is nothing
    whole, calls = getattr(triposplat, part), []

    def fails_once(*args: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(*args)

    monkeypatch.setattr(triposplat, part, fails_once)
    progress = Progress()
    generate.generate(GenerationRequest(image=image, model="triposplat"), tmp_path / "a", progress)
    assert any("trying again, once" in warning for warning in progress.warnings)


def test_weights_of_another_kind_are_refused_by_name(root: Path, image: str, tmp_path: Path) -> None:
    settings = dataclasses.asdict(TripoSplatSettings())
    (tmp_path / "model.json").write_text('{"schedule": {}}')
    with pytest.raises(DioramaError, match=r"E_WEIGHTS_CORRUPT.*TripoSplat's settings"):
        TripoSplatSettings.read(tmp_path)
    TripoSplatSettings().write(tmp_path)
    assert dataclasses.asdict(TripoSplatSettings.read(tmp_path)) == settings


def test_image_without_an_object_is_refused_and_a_panorama_is_framed() -> None:
    empty = Image.new("RGBA", (80, 60))
    dot = empty.copy()
    dot.putpixel((30, 30), (255, 0, 0, 255))
    for image in (empty, dot):
        with pytest.raises(DioramaError, match="E_IMAGE"):
            triposplat_image.framed(image, 64, 1)
    panorama = Image.new("RGBA", (4000, 20), (10, 200, 10, 255))
    assert triposplat_image.framed(panorama, 64, 0).size == (64, 64)
