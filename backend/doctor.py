"""`python -m backend doctor`: what this machine has, and how each installed model would run on it.

The text holds no paths and no names of people or computers, so that it can go into a bug report.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil

from .shared import model_store, protocol
from .shared.catalogue import MODELS, Model
from .shared.protocol import DioramaError
from .shared.request import PRESETS, GenerationRequest

PACKAGES = ("diffusers", "transformers", "accelerate", "numba", "warp-lang", "gsplat")
# What the denoisers reach of the speed of plain matrix products. Measured on two cores with MVDream's at full
# size: 74 % in float32, 79 % in bfloat16. Other devices have not been measured.
EFFICIENCY = 0.7


def main() -> int:
    """Prints the report; the exit code is 3 if nothing could run."""
    report = examine()
    print(report["text"])
    return 0 if report["usable"] else DioramaError("E_ENVIRONMENT", "").exit_code


def examine() -> dict[str, Any]:
    """The report: `{text, usable}`, as it crosses the process boundary."""
    report = _examined()
    for private, name in ((model_store.models_root(), "(models)"), (Path.home(), "~")):  # errors name files
        report["text"] = report["text"].replace(str(private), name)
    return report


def _examined() -> dict[str, Any]:
    lines = ["Diorama: this machine", f"protocol    {'.'.join(map(str, protocol.VERSION))}"]
    memory = psutil.virtual_memory()
    lines += [
        f"system      {platform.system()} {platform.release()}, {platform.machine()}, "
        f"Python {platform.python_version()}",
        f"memory      {_gb(memory.total)}, {_gb(memory.available)} free",
        f"disk        {_gb(_free_disk())} free for models",
    ]
    lines += [f"driver      {driver}" for driver in _nvidia_drivers()]
    try:
        lines += _environment()
    except (ImportError, OSError) as error:
        failure = protocol.explained(error)
        return {"text": "\n".join([*lines, f"{failure.code}  {failure.message}"]), "usable": False}
    found = [_model(model) for model in MODELS.values()]
    lines += ["models", *(line for _, about in found for line in about)]
    usable = any(runs for runs, _ in found)
    lines.append("" if usable else "Nothing could run here: no model is installed that fits.")
    return {"text": "\n".join(lines).rstrip(), "usable": usable}


def _environment() -> list[str]:
    """Packages, devices, and what is computed where and in which precision.

    Raises:
        ImportError, OSError: torch, or a package without which nothing runs, cannot be loaded.
    """
    from importlib import metadata

    import torch

    from kernels import drawing_device

    from .pipelines import devices

    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    built = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip, "XPU": torch.version.xpu}
    made_for = ", ".join(f"{name} {version}" for name, version in built.items() if version)
    lines = [
        f"torch       {torch.__version__}, made for {made_for or platform.machine()}",
        f"packages    {', '.join(versions)}",
    ]
    for device in devices.all_devices():
        lines.append(
            f"device      {device}: {devices.title(device)}, {_gb(devices.free_bytes(device))} of "
            f"{_gb(devices.total_bytes(device))} free, {_words(devices.fastest_dtype(device))}"
        )
    if reason := devices.unused():
        lines.append(f"            {reason}")
    cores = psutil.cpu_count(logical=False)
    bfloat16 = "has" if devices.computes_bfloat16() else "has no"
    lines.append(f"cpu         {cores} cores, {torch.get_num_threads()} threads, {bfloat16} bfloat16")
    best = devices.best_device()
    drawn = "GPU" if drawing_device(best).type == "cuda" else "CPU"
    lines.append(f"runs on     {best}; splats are drawn on the {drawn}, always in float32")
    return lines


def _model(model: Model) -> tuple[bool, list[str]]:
    """Whether a model would run, and what to say of it."""
    state = model_store.state(model, model_store.models_root())
    if not state.installed:
        damaged = f"damaged, {len(state.problems)} files" if state.problems else "not installed"
        return False, [f"  {model.name:<12}{damaged}"]
    image = "image.png" if model.needs_image else None
    requests = [GenerationRequest("an object", model.name, image=image)]
    if model.moves and not model.components:  # the starter, whose moving objects a model of their own makes
        requests.append(GenerationRequest("an object", model.name, frames=8))
    runs, lines = False, []
    for request in requests:
        try:
            fits, about = _generation(request)
        except DioramaError as error:
            fits, about = False, [f"{error.code}: {error.message}"]
        runs = runs or fits
        lines += [f"  {model.name:<12}{about[0]}", *(f"{'':14}{line}" for line in about[1:])]
    return runs, lines


def _generation(request: GenerationRequest) -> tuple[bool, list[str]]:
    """Whether it fits, by which plan, and how long denoising will take by the counted arithmetic."""
    from .pipelines import arithmetic, devices
    from .pipelines.generate import work_for
    from .pipelines.memory import Work, choose
    from .pipelines.settings import read_settings
    from .pipelines.triposplat_model import TripoSplatWork

    folder, work = work_for(request)
    device = devices.best_device()
    choice = choose(work, device, devices.free_bytes(device))
    if isinstance(work, Work):
        settings = read_settings(folder)
        flop = float(arithmetic.evaluation_flop(folder, work))
        steps = {name: settings.rounds * settings.preset(name).steps for name in PRESETS}
    else:
        assert isinstance(work, TripoSplatWork)
        flop = arithmetic.TRIPOSPLAT_FLOP
        steps = {name: work.settings.steps_of(name) for name in PRESETS}
    speed = arithmetic.matmul_flop_per_s(device, choice.plan.dtype)
    times = ", ".join(f"{name} {_duration(steps[name] * flop / speed / EFFICIENCY)}" for name in PRESETS)
    lines = [
        choice.reason,
        f"denoising takes about: {times} ({flop / 1e12:.3g} TFLOP a step; "
        f"matrix products here: {speed / 1e12:.3g} TFLOP/s)",
    ]
    return choice.fits, lines


def _nvidia_drivers() -> list[str]:
    """What NVIDIA's tool says of its GPUs; nothing without it."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return []
    query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(
            query, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        return [f"nvidia-smi fails: {type(error).__name__}"]


def _free_disk() -> int:
    folder = model_store.models_root()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(existing).free


def _words(dtype: Any) -> str:
    return f"computes in {str(dtype).removeprefix('torch.')} first"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
