"""What this machine has for models to run in: its memory, and that of a GPU."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..backend.shared.catalogue import Model
from . import torch_builds

Verdict = Literal["fits", "slow", "too large"]
_OTHERS_GIB = (
    2  # of main memory, for the system and Blender beside a model; on a CPU that runs in 16 bits, too
)
_APPLE_PART = 2 / 3  # about what Metal recommends to use of the main memory
_SMALL_GIB = 0.5  # a model of that size is quick enough on any CPU


@dataclass(frozen=True)
class Machine:
    """Memory in GiB; 0 where there is none or the system does not say."""

    ram_gib: float = 0.0
    gpu: str = ""
    gpu_gib: float = 0.0

    def verdict(self, model: Model) -> tuple[Verdict, str]:
        """How well a model will run here, and why in a few words."""
        whole_gib, least_gib = model.memory_gib
        if whole_gib <= _SMALL_GIB:
            return "fits", "runs on any CPU"
        if self.gpu_gib:
            if self.gpu_gib >= whole_gib:
                return "fits", f"{self.gpu} has {self.gpu_gib:.0f} GiB"
            if self.gpu_gib >= least_gib:
                return "slow", f"{self.gpu} has {self.gpu_gib:.0f} GiB: its networks wait in main memory"
            return "too large", f"{self.gpu} has {self.gpu_gib:.0f} GiB, {least_gib:g} GiB are needed"
        if self.ram_gib and self.ram_gib < whole_gib + _OTHERS_GIB:
            return "too large", f"no known GPU, and {self.ram_gib:.0f} GiB of memory are too few for the CPU"
        return "slow", "no known GPU: minutes to hours on the CPU"


def look() -> Machine:
    """Asks the system, and NVIDIA's driver if there is one; Intel's GPUs do not say how large they are."""
    name, gpu_gib = _nvidia()
    if not name:
        name, gpu_gib = _amd_or_apple()
    return Machine(_ram_gib(), name, gpu_gib)


def recommended(models: Iterable[Model], machine: Machine) -> set[str]:
    """For a prompt and for an image: the largest that fits, is downloaded, and allows commercial use."""
    best: dict[str, Model] = {}
    for model in models:
        downloads = all(file.source.repo for file in model.files if not file.optional)
        # what moves is slower, and its still images are no better
        moving = model.moves and bool(model.components)
        if machine.verdict(model)[0] == "fits" and downloads and model.commercial and not moving:
            for condition in model.conditioned_on:
                other = best.get(condition)
                if other is None or model.memory_gib > other.memory_gib:
                    best[condition] = model
    return {model.name for model in best.values()}


def _nvidia() -> tuple[str, float]:
    """The NVIDIA GPU with the most memory, and how much that is."""
    tool = shutil.which("nvidia-smi")
    if tool:
        with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
            lines = subprocess.run(
                [tool, "--query-gpu=memory.total,name", "--format=csv,noheader,nounits"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            ).stdout.splitlines()
            found = [line.partition(",") for line in lines if "," in line]
            memory, _, name = max(found, key=lambda parts: float(parts[0]))
            return name.strip(), float(memory) / 1024
    return "", 0.0


def _amd_or_apple() -> tuple[str, float]:
    """AMD's GPU with the most memory, if it can compute; or Apple's, with its part of the main memory."""
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "Apple's GPU", _ram_gib() * _APPLE_PART
    sizes = [0]
    if torch_builds.has_amd():
        with contextlib.suppress(OSError, ValueError):
            files = Path("/sys/class/drm").glob("card*/device/mem_info_vram_total")
            sizes += [int(file.read_text("ascii")) for file in files]
    return ("AMD's GPU", max(sizes) / 2**30) if max(sizes) else ("", 0.0)


def _ram_gib() -> float:
    if sys.platform == "win32":
        import ctypes

        kib = ctypes.c_ulonglong()
        if ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kib)):
            return kib.value / 2**20
        return 0.0
    with contextlib.suppress(OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return 0.0
