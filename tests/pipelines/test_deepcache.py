"""Fast denoising: fewer operations, the same object, and nothing of one run or branch in another."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from backend import cameras
from backend.models.deepcache import DeepFeatures
from backend.pipelines import orbits
from backend.pipelines.conditioning import Conditioning, condition_on_image, condition_on_text
from backend.pipelines.deepcache import DeepCacheConfig, whole_steps
from backend.pipelines.denoise import Sampling, denoise
from backend.pipelines.model import ViewsModel
from backend.pipelines.noise import initial_noise
from backend.pipelines.offload import offload
from backend.pipelines.plan import Plan
from backend.pipelines.vivid_zoo import warn_if_not_aligned
from backend.shared.progress import Progress
from tests.tiny import model_around, moving_unet

ALWAYS, OFTEN = DeepCacheConfig(whole_every=1), DeepCacheConfig(whole_until=0.0, whole_every=2)


@pytest.fixture(scope="module")
def vivid_zoo() -> ViewsModel:
    return model_around(moving_unet(busy=("proj_out", ".align_"), std=0.1, motion_max_frames=8))


@torch.no_grad()
def sample(model: ViewsModel, seed: int = 1, prompt: str = "a red mushroom", **options: Any) -> Tensor:
    if model.image_encoder:
        image = torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(5))
        conditioning = condition_on_image(model, image)
    else:
        conditioning = condition_on_text(model, [prompt])
    noise = initial_noise(model, 4, seed)
    sampling = Sampling(6, 2.0, options.pop("three_d_aware", ()), options.pop("fast", None))
    return denoise(model, conditioning, noise, orbits.view_cameras(model.settings, 4), sampling, **options)


def video(model: ViewsModel, fast: DeepCacheConfig | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise, words = (torch.randn(shape, generator=generator) for shape in ((1, 4, 2, 4, 8, 8), (2, 1, 5, 16)))
    conditioning = Conditioning(words.flatten(0, 1).flip(0))
    return denoise(model, conditioning, noise, cameras.orbit(4, 20.0, 2.0), Sampling(6, 3.0, cache=fast))


def test_whole_network_in_every_step_gives_the_same_bytes(
    tiny_model: ViewsModel,
    tiny_image_model: ViewsModel,
    tiny_moving_model: ViewsModel,
    vivid_zoo: ViewsModel,
) -> None:
    for model in (tiny_model, tiny_image_model, tiny_moving_model):
        assert torch.equal(sample(model), sample(model, fast=ALWAYS))
        assert not torch.equal(sample(model), sample(model, fast=OFTEN))
    assert torch.equal(video(vivid_zoo), video(vivid_zoo, fast=ALWAYS))
    assert not torch.equal(video(vivid_zoo), video(vivid_zoo, fast=OFTEN))


def test_skipped_steps_take_fewer_operations(tiny_model: ViewsModel, vivid_zoo: ViewsModel) -> None:
    marks: list[int] = []

    def mark(*_: Any) -> None:
        marks.append(counter.get_total_flops())

    for run, made_by, net in (
        (sample, tiny_model, tiny_model.unet),
        (video, vivid_zoo, vivid_zoo.unet),
    ):
        marks.clear()
        handles = net.register_forward_pre_hook(mark), net.register_forward_hook(mark)
        try:
            with FlopCounterMode(display=False) as counter:
                run(made_by, fast=DeepCacheConfig(0.0, 3, 1))
        finally:
            for handle in handles:
                handle.remove()
        taken = [end - start for start, end in zip(marks[::2], marks[1::2], strict=True)]
        assert [each == taken[0] for each in taken] == [True, False, False] * 2
        assert 0 < taken[1] < 0.5 * taken[0]


def test_more_layers_in_every_step_are_nearer_to_the_whole_network(vivid_zoo: ViewsModel) -> None:
    exact = video(vivid_zoo)
    off = [
        (video(vivid_zoo, fast=DeepCacheConfig(0.0, 2, layers)) - exact).square().mean()
        for layers in (1, 2, 4)
    ]
    assert off[0] > off[2]
    assert len({float(value) for value in off}) == 3


def test_branches_in_turn_do_not_mix(
    tiny_model: ViewsModel, tiny_image_model: ViewsModel, vivid_zoo: ViewsModel
) -> None:
    in_turn = Plan(batch_cfg=False)
    for run, model in ((sample, tiny_model), (sample, tiny_image_model), (video, vivid_zoo)):
        apart = dataclasses.replace(model, plan=in_turn)
        assert (run(model, fast=OFTEN) - run(apart, fast=OFTEN)).abs().max() < 1e-4


def test_first_steps_3d_aware_steps_and_those_after_them_are_whole() -> None:
    assert whole_steps(DeepCacheConfig(0.0, 3), 9) == {0, 3, 6}
    assert whole_steps(DeepCacheConfig(0.3, 3), 10) == {0, 1, 2, 5, 8}
    assert whole_steps(DeepCacheConfig(0.0, 1), 3) == {0, 1, 2}
    assert whole_steps(DeepCacheConfig(0.0, 4), 12, {5}) == {0, 4, 5, 6, 10}
    assert whole_steps(DeepCacheConfig(0.0, 3), 4, {4}) == {0, 3}  # 4 would be after the last


def test_nothing_is_skipped_before_there_is_something_to_go_on_from() -> None:
    deep = DeepFeatures(1)
    deep.begin(whole=False)
    assert not deep.skips


def test_run_that_was_stopped_leaves_nothing_to_the_next(tiny_model: ViewsModel) -> None:
    class Cancelled(Exception):
        """As when somebody presses Cancel."""

    def stop(i: int, _: Tensor) -> None:
        if i == 3:
            raise Cancelled

    before = sample(tiny_model, fast=OFTEN, three_d_aware=(0.5,))
    with pytest.raises(Cancelled):
        sample(tiny_model, seed=2, prompt="a blue car", fast=OFTEN, on_step=stop)
    assert torch.equal(before, sample(tiny_model, fast=OFTEN, three_d_aware=(0.5,)))


@pytest.mark.parametrize("waiting", ["model", "sequential"])
def test_networks_may_wait_in_main_memory(
    tiny_model: ViewsModel, vivid_zoo: ViewsModel, waiting: Any
) -> None:
    plan = Plan(offload=waiting, batch_cfg=False)
    networks = copy.deepcopy(
        {"unet": tiny_model.unet, "autoencoder": tiny_model.autoencoder, "moving": vivid_zoo.unet}
    )
    offload(networks, plan)
    moving = dataclasses.replace(vivid_zoo, unet=networks.pop("moving"), plan=plan)
    lean = dataclasses.replace(tiny_model, **networks, plan=plan)
    assert (sample(tiny_model, fast=OFTEN) - sample(lean, fast=OFTEN)).abs().max() < 1e-4
    assert (video(vivid_zoo, fast=OFTEN) - video(moving, fast=OFTEN)).abs().max() < 1e-4
    progress = Progress()
    warn_if_not_aligned(moving, progress)
    assert not progress.warnings  # the alignment's weights are found where they wait
