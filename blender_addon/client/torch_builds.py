"""Which build of torch fits this machine: for NVIDIA's, AMD's, Intel's or Apple's GPUs, or for the CPU."""

from __future__ import annotations

import ctypes.util
import dataclasses
import os
import platform
import shutil
import sys
from pathlib import Path

_INDEX = "https://download.pytorch.org/whl/"
_INTEL = "0x8086"  # among the makers of PCI devices


@dataclasses.dataclass(frozen=True)
class Size:
    """About how much an installation takes.

    Attributes:
        download_mb: what is downloaded.
        installed_gb: what stays on the disk.
        minutes: with a common connection: 100 Mbit/s.
    """

    download_mb: float
    installed_gb: float
    minutes: float

    @property
    def needed_gb(self) -> float:
        """What must be free: pip keeps its downloads beside it for a while."""
        return self.installed_gb + 2 * self.download_mb / 1e3

    @property
    def words(self) -> str:
        """For the user to read."""
        download = f"{self.download_mb / 1e3:.1f} GB"
        return f"{download} to download, {self.installed_gb:g} GB on disk, about {self.minutes:g} minutes"


@dataclasses.dataclass(frozen=True)
class Build:
    """One build of torch.

    Attributes:
        index: where pip finds it; empty for its usual one.
    """

    name: str
    title: str
    index: str
    size: Size


# On Linux without a GPU 1.7 GB and 193 s were measured; all other sizes are guesses.
_SMALL = Size(400, 1.7, 4)
CPU = Build("CPU", "CPU only", _INDEX + "cpu", _SMALL)
NVIDIA = Build("CUDA", "NVIDIA (CUDA)", "", Size(3200, 8.0, 12))  # pip's usual one on Linux
NVIDIA_WINDOWS = dataclasses.replace(NVIDIA, index=_INDEX + "cu130")
AMD = Build("ROCM", "AMD (ROCm)", _INDEX + "rocm7.2", Size(5000, 18.0, 18))
INTEL = Build("XPU", "Intel (XPU)", _INDEX + "xpu", Size(1900, 6.0, 8))
APPLE = Build("MPS", "Apple (Metal)", "", _SMALL)

_BY_PLATFORM = {
    "linux": (NVIDIA, AMD, INTEL, CPU),
    "win32": (NVIDIA_WINDOWS, INTEL, CPU),
    "darwin": (APPLE,),
}


def offered() -> tuple[Build, ...]:
    """The builds that are published for this system; none for Macs with Intel's processors."""
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        return ()
    return _BY_PLATFORM.get(sys.platform, (CPU,))


def choose(name: str = "") -> tuple[Build, str]:
    """The build of that name, or the one for this machine's GPU; and why, in words for the user."""
    builds = {build.name: build for build in offered()}
    if name in builds:
        return builds[name], "as chosen"
    if sys.platform == "darwin":
        return APPLE, "torch for macOS uses Apple's GPUs by itself"
    for build, has, why in (
        (builds.get("CUDA"), has_nvidia, "NVIDIA's driver is installed"),
        (builds.get("ROCM"), has_amd, "AMD's driver for computing is loaded"),
        (builds.get("XPU"), has_intel, "an Intel GPU and its Level Zero driver are installed"),
    ):
        if build and has():
            return build, why
    return builds["CPU"], "no GPU with a driver for computing was found"


def has_nvidia() -> bool:
    """Whether the system has NVIDIA's driver."""
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()


def has_amd() -> bool:
    """Whether the system has AMD's driver for computing, which ROCm needs."""
    return Path("/dev/kfd").exists()


def has_intel() -> bool:
    """Whether the system has an Intel GPU with Level Zero, which torch reaches it through."""
    if sys.platform == "win32":
        system = Path(os.environ.get("SYSTEMROOT", "C:/Windows")) / "System32"
        return (system / "ze_intel_gpu64.dll").exists()
    vendors = Path("/sys/class/drm").glob("card*/device/vendor")
    has_gpu = any(vendor.read_text("ascii").strip() == _INTEL for vendor in vendors)
    return has_gpu and ctypes.util.find_library("ze_intel_gpu") is not None
