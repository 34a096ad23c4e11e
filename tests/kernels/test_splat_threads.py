"""Threads change nothing but the time: not a bit of the result, and nothing of torch's settings."""

from __future__ import annotations

import platform
import re
from concurrent.futures import ThreadPoolExecutor

import numba
import pytest
import torch

from kernels import rasterization
from kernels.numba import raster
from tests.kernels.splat_scenes import as_leaves, cameras, shell


def everything(count: int, views: int, seed: int = 0) -> list[torch.Tensor]:
    """Image, alphas, lists and all gradients of one scene."""
    leaves = as_leaves(shell(count, seed) | cameras(views, 200, 140))
    image, alphas, meta = rasterization(**leaves, width=200, height=140, render_mode="RGB+D", backend="numba")
    g = torch.Generator().manual_seed(1)
    ((image * torch.randn(image.shape, generator=g)).sum() + alphas.sum()).backward()
    gradients = [tensor.grad for tensor in leaves.values() if tensor.requires_grad]
    return [image, alphas, meta["isect_offsets"], meta["flatten_ids"], *gradients]


@pytest.mark.parametrize("views", [1, 3])
def test_results_are_bitwise_the_same_for_any_number_of_threads(views):
    torch.set_num_threads(1)
    expected = everything(20_000, views)
    for threads in (1, 2, 7):
        torch.set_num_threads(threads)
        assert all(map(torch.equal, expected, everything(20_000, views))), threads
        assert torch.get_num_threads() == threads


def test_a_batch_of_cameras_is_bitwise_the_same_as_single_cameras():
    scene, lens = shell(5000), cameras(4, 100, 80)
    batch, batch_alphas, _ = rasterization(**scene, **lens, width=100, height=80)
    for c in range(4):
        one = {name: tensor[c : c + 1] for name, tensor in lens.items()}
        image, alphas, _ = rasterization(**scene, **one, width=100, height=80)
        assert torch.equal(image[0], batch[c]) and torch.equal(alphas[0], batch_alphas[c])


def test_two_python_threads_may_render_at_once():
    torch.set_num_threads(2)
    expected = [everything(8000, 1, seed) for seed in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(4):
            results = list(pool.map(lambda seed: everything(8000, 1, seed), (0, 1)))
            for one, other in zip(expected, results, strict=True):
                assert all(map(torch.equal, one, other))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="looks for x86 instructions")
def test_the_pixel_loop_is_compiled_to_packed_instructions():
    everything(50, 1)  # decides the signature
    options = {k: v for k, v in raster.rasterize.targetoptions.items() if k not in ("nopython", "cache")}
    kernel = numba.njit(**options)(raster.rasterize.py_func)
    kernel.compile(raster.rasterize.signatures[0])
    (assembly,) = kernel.inspect_asm().values()
    packed = len(re.findall(r"\bv?(?:fn?m(?:add|sub)\d*|mul|add|sub)ps\b", assembly))
    scalar = len(re.findall(r"\bv?(?:fn?m(?:add|sub)\d*|mul)ss\b", assembly))
    assert packed >= 30 and scalar <= packed / 4
