"""Times an evaluation of a denoiser at published size, with random weights, in each way that torch offers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from backend.pipelines import devices
from backend.pipelines.attention import attention_of
from backend.pipelines.plan import Plan
from tests.bench.denoising import DENOISERS, published

KERNELS = {
    "attention by flash": SDPBackend.FLASH_ATTENTION,
    "attention by cuDNN": SDPBackend.CUDNN_ATTENTION,
    "attention in blocks": SDPBackend.EFFICIENT_ATTENTION,
    "attention written out": SDPBackend.MATH,
}
REPEATS = 3


def ways(name: str, device: torch.device, compiled: bool) -> Iterator[tuple[str, float | None]]:
    """Each way, and the seconds of an evaluation of both halves of the guidance; None where it does not run.

    Args:
        name: of a model, one of `denoising.DENOISERS`.
        compiled: by `torch.compile` too, which takes minutes; on CUDA with CUDA graphs.
    """
    loop = published(name, device)
    net: Any = loop.net.to(devices.fastest_dtype(device))
    arguments, told = loop.inputs()

    def evaluate(network: Any) -> Callable[[], object]:
        return lambda: network(*arguments, **told)

    ours = attention_of(Plan(device, net.dtype))
    yield "as it is", _seconds(evaluate(net), device, ours)
    for title, kernel in KERNELS.items():
        yield title, _seconds(evaluate(net), device, sdpa_kernel([kernel]))
    net = net.to(memory_format=torch.channels_last)
    yield "channels last", _seconds(evaluate(net), device, ours)
    if compiled:
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        yield "channels last, compiled", _seconds(evaluate(torch.compile(net, mode=mode)), device)


@torch.inference_mode()
def _seconds(call: Callable[[], object], device: torch.device, context: Any = None) -> float | None:
    """The least of a few, after one that is not counted."""
    least = float("inf")
    try:
        with context or nullcontext():
            for repeat in range(1 + REPEATS):
                began = time.perf_counter()
                call()
                if device.type != "cpu":
                    torch.accelerator.synchronize()
                least = min(least, time.perf_counter() - began) if repeat else least
    except RuntimeError:  # there is no such kernel for this device or these sizes
        return None
    return least


def table(names: list[str], device: torch.device, compiled: bool) -> None:
    """Prints a row for each way of each model."""
    for name in names:
        if name not in DENOISERS:
            continue
        whole = None
        for title, seconds in ways(name, device, compiled):
            whole = whole or seconds
            gain = f"{whole / seconds:.2f} times as fast" if whole and seconds else "does not run here"
            took = f"{seconds:.2f} s" if seconds else ""
            print(f"| `{name}` | {title} | {took} | {gain} |", flush=True)
