"""Devices of every make: none of them is in the machines of these tests, so they are stood in for."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from backend import cameras
from backend.gaussians import rendering
from backend.pipelines import arithmetic, devices, memory, three_d_aware
from backend.pipelines.model import ViewsModel, load
from backend.pipelines.plan import CPU
from backend.pipelines.settings import read_settings
from backend.pipelines.three_d_aware import three_d_aware_step
from backend.shared.model_store import STARTER
from kernels import drawing_device

GPUS = [torch.device("cuda", 0), torch.device("xpu", 0), torch.device("mps", 0)]


@pytest.mark.parametrize(
    ("found", "dtype"),
    [
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_f": True, "avx512_vnni": True}, torch.float32),  # which would only imitate it
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
    ],
)
def test_cpu_computes_in_bfloat16_only_where_it_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert devices.fastest_dtype(CPU) == dtype
    plans = memory.plans(CPU)
    assert plans[0].dtype == plans[1].dtype == dtype
    assert plans[-1].dtype == torch.bfloat16  # half the memory, at any price


@pytest.mark.parametrize("device", GPUS)
def test_any_accelerator_is_taken_and_run_in_half_precision(
    monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device(device.type))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert devices.best_device() == device
    assert devices.all_devices() == [CPU, device, torch.device(device.type, 1)]
    plans = memory.plans(device)
    assert {plan.dtype for plan in plans} == {torch.float16}
    assert ("sequential" in {plan.offload for plan in plans}) == (device.type != "mps")


def test_cpu_without_onednn_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": True})  # as Apple's
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert devices.fastest_dtype(CPU) == torch.float32


CARDS = [
    ((6, 1), ["sm_75", "sm_86", "sm_90", "compute_90"], False),  # a GTX 1080 and a torch for CUDA 13
    ((8, 9), ["sm_75", "sm_86", "sm_90a"], True),  # by the code of 8.6
    ((8, 0), ["sm_75", "sm_86"], False),
    ((12, 0), ["sm_90", "compute_90"], True),  # compiled by the driver
    ((12, 0), ["sm_90", "sm_100"], False),
    ("gfx1100", ["gfx942", "gfx1100"], True),
    ("gfx90c:xnack-", ["gfx90a", "gfx1100"], False),  # a processor's own GPU
]


@pytest.mark.parametrize(("card", "built", "used"), CARDS)
def test_gpu_that_torch_was_not_built_for_is_left_alone_and_named(
    monkeypatch: pytest.MonkeyPatch, card: Any, built: list[str], used: bool
) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: card)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "The Card")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(gcnArchName=card))
    monkeypatch.setattr(torch.version, "hip", "7.2" if isinstance(card, str) else None)
    assert devices.best_device() == (GPUS[0] if used else CPU)
    assert devices.all_devices() == [CPU, GPUS[0]]
    reason = devices.unused()
    assert reason is None if used else "The Card" in str(reason)


def test_free_memory_is_asked_of_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda device: (5 << 30, 16 << 30))
    monkeypatch.setattr(torch.accelerator, "memory_reserved", lambda device: 2 << 30)
    for device in GPUS[:2]:
        assert devices.free_bytes(device) == 7 << 30  # what this process holds is free for the next model
        assert devices.total_bytes(device) == 16 << 30
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10 << 30)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 1 << 30)
    memory_of_machine = SimpleNamespace(available=4 << 30)
    monkeypatch.setattr(devices.psutil, "virtual_memory", lambda: memory_of_machine)
    assert devices.free_bytes(GPUS[2]) == 5 << 30
    memory_of_machine.available = 40 << 30
    assert devices.free_bytes(GPUS[2]) == 10 << 30


def test_splats_of_devices_without_an_engine_are_drawn_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for device in (CPU, *GPUS[1:]):
        assert drawing_device(device) == CPU
    monkeypatch.setattr(torch.version, "hip", "7.2")
    assert drawing_device(GPUS[0]) == CPU


@torch.inference_mode()
def test_splats_are_given_to_the_device_that_draws_and_images_come_back(
    monkeypatch: pytest.MonkeyPatch, tiny_model: ViewsModel
) -> None:
    """A device of sizes alone stands in for the one that draws; the CPU for the one with the networks."""
    draws, drawn = torch.device("meta"), []

    def rasterization(*given: Any, backgrounds: Any, **_: Any) -> tuple[Any, Any, dict]:
        tensors = [each for each in (*given, backgrounds) if isinstance(each, torch.Tensor)]
        drawn.append({(each.device, each.dtype) for each in tensors})
        images = torch.full((2, 4, 32, 32, 3), 0.5)
        return images, images[..., :1], {}

    monkeypatch.setattr(three_d_aware, "drawing_device", lambda device: draws)
    monkeypatch.setattr(rendering, "rasterization", rasterization)
    step = three_d_aware_step(
        torch.zeros(2, 4, 4, 8, 8, dtype=torch.bfloat16), cameras.orbit(4, 15.0, 1.9),
        decode=lambda some: torch.zeros(len(some), 3, 32, 32, dtype=some.dtype),
        encode=lambda images: images[:, [0, 1, 2, 0], ::4, ::4], input_views=(0, 1, 2, 3),
        reconstructor=copy.deepcopy(tiny_model.reconstructor).bfloat16(),
        rendering=tiny_model.settings.rendering,
    )  # fmt: skip
    assert drawn == [{(draws, torch.float32)}]  # whatever the networks compute in
    assert (step.latents.device, step.latents.dtype) == (CPU, torch.bfloat16)


def _convolution_flop(
    x: Any, weight: Any, _bias: Any, _padding: Any, _stride: Any, _dilation: Any, _groups: Any, out_shape: Any
) -> int:
    """torch counts the multiplications of all convolutions but oneDNN's."""
    return conv_flop_count(x, weight, out_shape)


def test_arithmetic_is_that_of_the_real_network() -> None:
    model, settings = load(STARTER), read_settings(STARTER)
    work = memory.work_of(STARTER, settings)
    side = work.latent_px
    noisy = torch.zeros(2, work.views, 1, model.unet.config["in_channels"], side, side)
    convolution = {torch.ops.aten.mkldnn_convolution: _convolution_flop}
    counter = FlopCounterMode(display=False, custom_mapping=convolution)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:  # others are not counted on CPUs
        context = torch.zeros(2, 77, model.unet.config["cross_attention_dim"])
        image = {
            "image_latents": torch.zeros(2, noisy.shape[3], side, side),
            "image_embeddings": torch.zeros(2, 1, model.unet.config["image_embedding_dim"]),
        }
        model.predict(noisy, 500, context, cameras.orbit(work.views, 15.0, 1.9), image)
    assert arithmetic.evaluation_flop(STARTER, work) == counter.get_total_flops()
