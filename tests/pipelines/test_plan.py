"""A plan is chosen from free memory before anything is loaded; whichever it is, the views are the same."""

from __future__ import annotations

import copy
import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backend.models.multiview_motion_unet import MultiViewMotionUNet
from backend.models.videomv_unet import VideoMVUNet
from backend.pipelines import generate, model_cache, orbits, views
from backend.pipelines.conditioning import condition_on_image, condition_on_text
from backend.pipelines.denoise import Sampling, denoise
from backend.pipelines.memory import plans
from backend.pipelines.model import ViewsModel, load
from backend.pipelines.noise import initial_noise
from backend.pipelines.offload import offload
from backend.pipelines.plan import CPU, Plan
from backend.shared.model_store import STARTER
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest

LEAN = {"batch_cfg": False, "images_at_once": 3}


@pytest.fixture(scope="module")
def starter() -> ViewsModel:
    return load(STARTER, Plan())


@torch.inference_mode()
def sample(model: ViewsModel, num_views: int = 4, aware: tuple[float, ...] = (0.5,)) -> Tensor:
    cameras = orbits.view_cameras(model.settings, num_views)
    conditioning = condition_on_text(model, ["a red mushroom"])
    noise = initial_noise(model, num_views, 3)
    latents = denoise(model, conditioning, noise, cameras, Sampling(2, 3.0, aware))
    return model.decode_frames(latents[0])[:, 0]


@pytest.fixture(scope="module")
def whole(starter: ViewsModel) -> Tensor:  # [V, 3, H, W]
    """The views when everything is done at once."""
    return sample(starter)


def test_branches_and_images_one_after_the_other_give_the_same_views(
    starter: ViewsModel, whole: Tensor
) -> None:
    batches: dict[str, list[int]] = defaultdict(list)
    autoencoder = starter.autoencoder
    hooks = [
        network.register_forward_pre_hook(lambda net, args: batches[type(net).__name__].append(len(args[0])))
        for network in (starter.unet, autoencoder.encoder, autoencoder.decoder, starter.reconstructor)
    ]
    apart = sample(dataclasses.replace(starter, plan=Plan(**LEAN)))
    for hook in hooks:
        hook.remove()
    # Two steps; in the second, four views of each branch are decoded, reconstructed and encoded again.
    assert batches == {
        "VideoMVImageUNet": [1, 1, 1, 1],
        "LGM": [1, 1],
        "Encoder": [3, 1, 3, 1],
        "Decoder": [3, 1, 3, 1, 3, 1],
    }
    torch.testing.assert_close(apart, whole, rtol=0, atol=1 / 255)
    assert ((apart - whole).abs() > 1e-3).float().mean() < 1e-4  # a sharp decoder: at few edges


@torch.inference_mode()
def test_image_is_heard_by_the_right_branch_when_they_run_apart(tiny_image_model: ViewsModel) -> None:
    conditioning = condition_on_image(
        tiny_image_model, torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(5))
    )
    cameras, noise = (
        orbits.view_cameras(tiny_image_model.settings, 4),
        initial_noise(tiny_image_model, 4, 1),
    )
    together, apart = (
        denoise(model, conditioning, noise, cameras, Sampling(2, 2.0))
        for model in (tiny_image_model, dataclasses.replace(tiny_image_model, plan=Plan(**LEAN)))
    )
    torch.testing.assert_close(apart, together)


def test_views_in_half_precision_look_the_same(starter: ViewsModel) -> None:
    half = load(STARTER, plans(CPU)[-1])
    assert half.unet.dtype == torch.bfloat16
    assert (sample(half, aware=()) - sample(starter, aware=())).square().mean() < 10**-2.5  # 25 dB


def test_layers_that_wait_give_the_same_views(starter: ViewsModel, whole: Tensor) -> None:
    waiting = load(STARTER, Plan(offload="sequential"))
    assert torch.equal(sample(waiting), whole)
    for network in waiting.networks:
        assert {weight.device.type for weight in network.parameters()} == {"meta"}


@torch.inference_mode()
def test_layers_of_every_denoiser_can_wait(tiny_image_model: ViewsModel) -> None:
    image = torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(5))
    cameras, noise = (
        orbits.view_cameras(tiny_image_model.settings, 4),
        initial_noise(tiny_image_model, 4, 1),
    )
    motion = MultiViewMotionUNet(
        block_out_channels=(32, 64), attention=(True, False), num_attention_heads=(2, 2), norm_num_groups=8,
        cross_attention_dim=32, layers_per_block=1, motion_heads=2,
    ).eval()  # fmt: skip
    video = torch.ones(1, 4, 2, 4, 8, 8), 1, torch.ones(1, 5, 32), cameras[None]
    expected = motion(*video)
    for plan in (Plan(), Plan(offload="sequential")):
        model = dataclasses.replace(copy.deepcopy(tiny_image_model), plan=plan)
        offload({str(i): network for i, network in enumerate((*model.networks, motion))}, plan)
        conditioning = condition_on_image(model, image)
        latents = denoise(model, conditioning, noise, cameras, Sampling(2, 2.0, (0.5,)))
        if plan.offload == "none":
            together = latents
    assert motion.conv_in.weight.device.type == "meta"
    assert torch.equal(motion(*video), expected)
    assert torch.equal(latents, together)


def parking(network: Any) -> Any:
    """A `network.to` that leaves the weights behind when it goes where none can be, and finds them again."""
    move, weights = network.to, network.state_dict()

    def to(device: torch.device | str) -> Any:
        move(device) if str(device) == "meta" else network.load_state_dict(weights, assign=True)
        return network

    return to


@torch.inference_mode()
def test_only_the_network_that_works_is_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real hooks, and torch's device that has only sizes in place of a GPU."""
    there = torch.device("meta")
    model = load(STARTER, Plan(there, offload="model"))
    for network in model.networks:
        monkeypatch.setattr(network, "to", parking(network))
        assert network.device == CPU
    noise, context = torch.ones(2, 4, 1, 16, 12, 12, device=there), torch.ones(2, 12, 128, device=there)
    image = {
        "image_latents": torch.ones(2, 16, 12, 12, device=there),
        "image_embeddings": torch.ones(2, 1, 128, device=there),
    }
    cameras = torch.eye(4, device=there).repeat(4, 1, 1)

    def predict() -> Tensor:
        return model.predict(noise, 1, context, cameras, image)

    steps: tuple[tuple[nn.Module, Callable[[], Tensor]], ...] = (
        (model.text_encoder, lambda: model.encode_prompts(["a red car"] * 2)),
        (model.unet, predict),
        (model.unet, predict),
        (model.autoencoder, lambda: model.decode(noise[0, :, 0])),
        (model.reconstructor, lambda: model.reconstructor(torch.ones(1, 4, 9, 96, 96, device=there))),
        (model.autoencoder, lambda: model.encode(torch.ones(4, 3, 96, 96, device=there))),
        (model.unet, predict),
    )
    for working, call in steps:
        assert call().device == there
        assert [network for network in model.networks if network.device == there] == [working]


@torch.inference_mode()
def test_a_video_is_decoded_some_images_at_a_time_and_says_how_far_it_is(starter: ViewsModel) -> None:
    latents, steps = torch.randn(4, 3, 16, 12, 12), []
    progress = Progress(lambda event, fields: steps.append((fields["step"], fields["total"])))
    some = dataclasses.replace(starter, plan=Plan(images_at_once=5)).decode_frames(latents, progress)
    assert steps == [(5, 12), (10, 12), (12, 12)]
    torch.testing.assert_close(some[1, 2], starter.decode(latents[1, 2][None])[0], rtol=0, atol=1e-4)


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """The asset folder, and afterwards no model in memory."""
    (tmp_path / "asset").mkdir()
    yield tmp_path / "asset"
    model_cache.forget()


def at_most(samples: int) -> Any:
    """A GPU's memory, in effect: the U-Net runs out of it with more samples than that."""

    def limit(module: nn.Module, args: Any) -> None:
        if isinstance(module, VideoMVUNet) and len(args[0]) > samples:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    return nn.modules.module.register_module_forward_pre_hook(limit)


REQUEST = GenerationRequest("a red mushroom", steps=1)


def test_out_of_memory_is_tried_again_at_the_next_leaner_plan(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "_MOST_STEPS", 2)  # to save time
    progress = Progress()
    with at_most(1):
        assert generate.generate(REQUEST, out, progress) == out
    assert (out / "asset.json").is_file()
    assert progress.warnings == [
        "Memory ran out; trying again, once: images are encoded and decoded 4 at a time, "
        "the two halves of guidance run one after the other."
    ]
    assert [plan.batch_cfg for _, plan in model_cache._kept] == [False]


def test_second_time_out_of_memory_is_an_error_with_a_hint(out: Path) -> None:
    said: list[str] = []
    progress = Progress(lambda event, fields: said.append(fields["message"]) if event == "log" else None)
    with at_most(0), pytest.raises(DioramaError) as caught:
        generate.generate(REQUEST, out, progress)
    assert said[0].startswith("8 views need about 0.7 GB at float32, ")
    assert said[0].endswith(" of main memory are free: everything at once.")
    assert len(said) == 2
    assert caught.value.code == "E_OUT_OF_MEMORY"
    assert "fewer than 8 views" in caught.value.hint
    assert "OutOfMemoryError" in caught.value.detail
    assert len(progress.warnings) == 1
    assert not model_cache._kept
    assert not list(out.iterdir())


def test_only_one_model_is_kept_and_by_its_plan() -> None:
    one = model_cache.loaded(STARTER, Plan(), load)
    assert model_cache.loaded(STARTER, Plan(), load) is one
    assert model_cache.kept_bytes(CPU) == 4 * sum(w.numel() for net in one.networks for w in net.parameters())
    other = model_cache.loaded(STARTER, plans(CPU)[-1], load)
    assert other is not one
    assert list(model_cache._kept.values()) == [other]
    model_cache.forget()
    assert model_cache.kept_bytes(CPU) == 0
