"""What the networks run on: whatever accelerator torch finds, else the CPU; in which precision and memory."""

from __future__ import annotations

import platform
import re
from typing import Any

import psutil
import torch

from .plan import CPU

# What a CPU must have to compute in bfloat16; others imitate it, which takes longer than float32.
_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")  # two of x86, two of Arm


def best_device() -> torch.device:
    """What torch finds and was built for, CUDA (AMD's too, by ROCm), XPU or MPS; else the CPU."""
    found = torch.accelerator.current_accelerator(check_available=True)
    device = torch.device(found.type, torch.accelerator.current_device_index()) if found else CPU
    return device if has_kernels(device) else CPU


def all_devices() -> list[torch.device]:
    """The CPU, then every accelerator of the kind that torch finds, used or not."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return (
        [CPU, *(torch.device(found.type, i) for i in range(torch.accelerator.device_count()))]
        if found
        else [CPU]
    )


def has_kernels(device: torch.device) -> bool:
    """Whether torch was built for GPUs of that generation; on others it fails at its first operator."""
    built = torch.cuda.get_arch_list() if device.type == "cuda" else []
    if not built:
        return True
    if torch.version.hip:
        properties: Any = torch.cuda.get_device_properties(device)
        return properties.gcnArchName.partition(":")[0] in built
    major, minor = torch.cuda.get_device_capability(device)
    for kind, made_for in re.findall(r"(sm|compute)_(\d+)", " ".join(built)):
        made_major, made_minor = divmod(int(made_for), 10)
        # Machine code runs on later GPUs of its own generation, code to be compiled on all later ones.
        same, earlier = made_major == major and made_minor <= minor, made_major < major
        if same or (earlier and kind == "compute"):
            return True
    return False


def unused() -> str | None:
    """Why a GPU that is there is not used, in a sentence; None if none is or it is used."""
    for device in all_devices():
        if not has_kernels(device):
            return f"{title(device)} is not used: torch {torch.__version__} was not built for GPUs like it."
    return None


def title(device: torch.device) -> str:
    """What its maker calls it, and how it is reached."""
    if device.type == "cpu":
        return _cpu_name()
    if device.type == "mps":
        return f"{_cpu_name()} (MPS)"
    module: Any = torch.get_device_module(device)
    return f"{module.get_device_name(device)} ({'ROCm' if torch.version.hip else device.type.upper()})"


def fastest_dtype(device: torch.device) -> torch.dtype:
    """The precision that networks are run in first.

    Half on accelerators, as the published models were run; bfloat16, whose range is that of float32, on CPUs
    that compute in it. Splats, schedulers and rendering are in float32 everywhere.
    """
    if device.type == "cpu":
        return torch.bfloat16 if computes_bfloat16() else torch.float32
    return torch.float16


def computes_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16, AVX512-BF16, AMX or Arm's, and torch can use them."""
    has = torch.cpu.get_capabilities()
    return torch.backends.mkldnn.is_available() and any(has.get(name) for name in _BFLOAT16)


def free_bytes(device: torch.device) -> int:
    """Memory that a new model could take; on accelerators, what this process holds there counts as free.

    It holds it for models that go when another one comes.
    """
    available = psutil.virtual_memory().available
    if device.type == "cpu":
        return available
    if device.type == "mps":  # a part of the main memory, up to what Metal recommends
        return min(torch.mps.recommended_max_memory(), available + torch.mps.driver_allocated_memory())
    free, _ = torch.accelerator.get_memory_info(device)
    return free + torch.accelerator.memory_reserved(device)


def total_bytes(device: torch.device) -> int:
    """All memory of a device."""
    if device.type == "cpu":
        return psutil.virtual_memory().total
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return torch.accelerator.get_memory_info(device)[1]


def empty_cache() -> None:
    """Gives back what the accelerator's allocator keeps for later."""
    device = best_device()
    if device != CPU:
        torch.get_device_module(device).empty_cache()


def _cpu_name() -> str:
    """The CPU as its maker calls it, where the system says so."""
    name = str(torch.cpu.get_capabilities().get("cpu_name") or "")
    return name or platform.processor() or platform.machine()
