"""How much memory a generation needs, worked out from the files' headers before anything is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub import parse_local_safetensors_file_metadata
from huggingface_hub.errors import SafetensorsParsingError

from ..shared.protocol import DioramaError
from .devices import fastest_dtype
from .latents import latent_size
from .plan import Plan
from .settings import ModelSettings

# Peak activations, in numbers for every pixel and every channel of the widest images inside (latent pixels
# for denoisers). Counted by `python -m tests.bench.activation_memory` on the published networks at their
# published sizes: it runs them on tensors that have only sizes, with memory-efficient attention, as on any
# GPU of today. In half precision they are 499 MiB for one half of the guidance batch of VideoMV's 24 views,
# 63 for MVDream's 4, 1049 for Vivid-ZOO's 4 x 16 and 1051 for Animate3D's, 96 for an image of 256 px that
# is decoded and 80 for one that is encoded (381 if its gradient is wanted), and 300 for LGM's 4 views.
# What DeepCache keeps from step to step is one such number more, within what SPARE adds.
ACTIVATIONS = {
    "VideoMVUNet": 33.3,
    "VideoMVImageUNet": 33.6,
    "MultiViewMotionUNet": 26.3,  # with motion; 25.3 without
    "decode": 6.0,
    "encode": 5.0,
    "encode for gradients": 23.8,
    "LGM": 9.4,
}

# Of an image of splats: colours, alpha and their copies, and for every splat its place in the image and in
# the lists of tiles. Measured as the growth of the process on a CPU: 60 bytes per pixel at 24 images of
# 512 px and 65 536 splats. Not measured on a GPU.
RENDERING_BYTES = 60

# What the numbers above leave out: workspace of convolutions, and memory that the allocator cannot reuse.
# Assumptions, since no GPU has been measured yet.
SPARE = 1.15
WORKSPACE_BYTES = 300 * 2**20

OBJECTS_AT_ONCE = 4  # reconstructed together in a 3D-aware step, one for every frame and guidance row
NETWORKS = ("text_encoder", "image_encoder", "unet", "autoencoder", "reconstructor")


@dataclass(frozen=True)
class Size:
    """How many weights a network has, and its largest tensor."""

    weights: int
    largest: int


@dataclass(frozen=True)
class Work:
    """The sizes of a generation that its memory depends on.

    Attributes:
        networks: by their folders' names.
        denoiser: the class of the U-Net.
        widths: channels of the finest level of the U-Net, the autoencoder and the reconstructor.
        three_d_aware: whether views are encoded and rendered while they are denoised.
        distilled: whether images of splats are encoded, with gradients, and nothing is decoded.
    """

    networks: dict[str, Size]
    denoiser: str
    widths: tuple[int, int, int]
    views: int
    frames: int
    size_px: int
    latent_px: int
    input_views: int
    input_px: int
    rendering_px: int
    three_d_aware: bool
    distilled: bool = False

    def needed_bytes(self, plan: Plan) -> int:
        """The most memory of the plan's device that is needed at any time."""
        return needed_bytes(self, plan)

    @property
    def what(self) -> str:
        """What is made, in words."""
        frames = f" of {self.frames} frames" if self.frames > 1 else ""
        return f"{self.views} views{frames}{' to distil from' if self.distilled else ''}"

    @property
    def less(self) -> str:
        """What to ask fewer of if memory runs out; empty for nothing."""
        return f"{self.views} views" + (f" or {self.frames} frames" if self.frames > 1 else "")


def work_of(
    folder: Path,
    settings: ModelSettings,
    views: int | None = None,
    frames: int | None = None,
    distilled: bool = False,
) -> Work:
    """A generation's sizes, from the headers of the model's files and the request.

    Args:
        views, frames: how many are asked for; None for the model's own numbers.
        distilled: whether splats are distilled out of the model.

    Raises:
        DioramaError: E_WEIGHTS_MISSING or E_WEIGHTS_CORRUPT, naming the network.
    """
    sizes: dict[str, Size] = {}
    configs: dict[str, Any] = {}
    for part in NETWORKS:
        path = folder / part
        if not path.is_dir() and part == "image_encoder":
            continue
        sizes[part], configs[part] = network_size(path)
    try:
        levels = configs["autoencoder"]["block_out_channels"]
        return Work(
            networks=sizes,
            denoiser=configs["unet"]["_class_name"],
            widths=(
                configs["unet"]["block_out_channels"][0],
                levels[0],
                configs["reconstructor"]["down_channels"][0],
            ),
            views=views or settings.num_views,
            frames=frames or settings.num_frames,
            size_px=settings.size_px,
            latent_px=latent_size(configs["autoencoder"], settings.size_px)[1],
            input_views=settings.input_views,
            input_px=configs["reconstructor"]["input_size"],
            rendering_px=settings.rendering.size_px,
            three_d_aware=bool(settings.three_d_aware) and not distilled,
            distilled=distilled,
        )
    except (KeyError, IndexError, TypeError) as error:
        raise DioramaError(
            "E_WEIGHTS_CORRUPT", f"a config.json in {folder} is of another network", detail=repr(error)
        ) from error


def network_size(folder: Path) -> tuple[Size, dict[str, Any]]:
    """How large a network is, and its configuration, from the files in its folder.

    Raises:
        DioramaError: E_WEIGHTS_MISSING or E_WEIGHTS_CORRUPT.
    """
    files = list(folder.glob("*.safetensors"))
    if not files:
        raise DioramaError("E_WEIGHTS_MISSING", f"{folder} has no weights")
    try:
        headers = [parse_local_safetensors_file_metadata(file) for file in files]
        counts = [tensor.parameter_count for header in headers for tensor in header.tensors.values()]
        return Size(sum(counts), max(counts)), json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, SafetensorsParsingError) as error:
        raise DioramaError("E_WEIGHTS_CORRUPT", f"{folder} cannot be read", detail=str(error)) from error


def needed_bytes(work: Work, plan: Plan) -> int:
    """The most memory of the plan's device that the work needs at any time: an estimate."""
    number = plan.dtype.itemsize
    branches = 2 if plan.batch_cfg else 1
    objects = min(OBJECTS_AT_ONCE, branches * work.frames)  # reconstructed at once in a 3D-aware step
    in_a_step = objects if work.three_d_aware else 0
    at_once = plan.images_at_once or max(work.views * work.frames, in_a_step * work.views)
    denoiser, autoencoder, reconstructor = work.widths
    latents = branches * work.views * work.frames * work.latent_px**2
    seen = max(in_a_step, 1) * min(work.input_views, work.views) * work.input_px**2
    decoded = min(at_once, max(work.views * work.frames, in_a_step * work.input_views)) * work.size_px**2
    encoded = min(at_once, max(in_a_step * work.views, 1)) * work.size_px**2
    rendered = max(in_a_step, 1) * work.views * work.rendering_px**2
    if work.distilled:  # images wait for their gradients, beside whatever works
        coded = min(at_once, work.views) * work.size_px**2 * ACTIVATIONS["encode for gradients"]
        waiting = work.views * work.size_px**2 * RENDERING_BYTES
    else:
        coded = max(decoded * ACTIVATIONS["decode"], encoded * ACTIVATIONS["encode"])
        waiting = 0
    activations = {
        "text_encoder": 0.0,  # one sentence: nothing beside the others
        "image_encoder": 0.0,
        "unet": number * latents * denoiser * ACTIVATIONS[work.denoiser],
        "autoencoder": number * autoencoder * coded,
        "reconstructor": max(number * seen * reconstructor * ACTIVATIONS["LGM"], rendered * RENDERING_BYTES),
    }
    everything = sum(network.weights for network in work.networks.values())
    resident = {
        name: {"none": everything, "model": network.weights, "sequential": 2 * network.largest}[plan.offload]
        for name, network in work.networks.items()
    }
    most = max(number * resident[name] + activations[name] for name in work.networks)
    return round(SPARE * (most + waiting)) + WORKSPACE_BYTES


WORTHWHILE = 0.95  # a leaner plan that needs more than this part of the one before it is not worth its time


@dataclass(frozen=True)
class Choice:
    """The plan for a piece of work.

    Attributes:
        leaner: the plan to try if memory runs out all the same; None if there is none.
        reason: why, in a sentence for the user.
        fits: whether it should fit.
    """

    plan: Plan
    leaner: Plan | None
    reason: str
    fits: bool


def plans(device: torch.device) -> list[Plan]:
    """All plans for a device, from the fastest to the leanest."""
    lean: dict[str, Any] = {"batch_cfg": False, "images_at_once": 4}
    fastest = fastest_dtype(device)
    if device.type == "cpu":
        # A CPU that does not compute in bfloat16 imitates it, which takes time but saves as much.
        least = [] if fastest == torch.bfloat16 else [Plan(device, torch.bfloat16, **lean)]
        return [Plan(device, fastest), Plan(device, fastest, **lean), *least]
    if device.type == "mps":  # its memory is the main memory: nothing is gained by moving networks there
        return [Plan(device, fastest, images_at_once=8), Plan(device, fastest, **lean)]
    return [
        Plan(device, fastest, images_at_once=8),  # more at once are not faster
        Plan(device, fastest, **lean),
        Plan(device, fastest, **lean, offload="model"),
        Plan(device, fastest, batch_cfg=False, images_at_once=1, offload="sequential"),
    ]


class Planned(Protocol):
    """What is known of any generation before it begins: see `Work`."""

    def needed_bytes(self, plan: Plan) -> int:
        """The most memory of the plan's device that is needed at any time."""

    @property
    def what(self) -> str:
        """What is made, in words."""

    @property
    def less(self) -> str:
        """What to ask fewer of if memory runs out."""


def choose(work: Planned, device: torch.device, free_bytes: int) -> Choice:
    """The fastest plan that fits into the free memory, or the leanest: an estimate never refuses."""
    worthwhile: list[tuple[Plan, int]] = []
    for plan in plans(device):
        needed = work.needed_bytes(plan)
        if not worthwhile or needed < WORTHWHILE * worthwhile[-1][1]:
            worthwhile.append((plan, needed))
    first, most = worthwhile[0]
    fitting = [i for i, (_, needed) in enumerate(worthwhile) if needed <= free_bytes]
    chosen = fitting[0] if fitting else len(worthwhile) - 1
    plan, needed = worthwhile[chosen]
    leaner = worthwhile[chosen + 1][0] if chosen + 1 < len(worthwhile) else None

    place = "main memory" if device.type in {"cpu", "mps"} else "the GPU's memory"
    dtype = str(first.dtype).removeprefix("torch.")
    reason = f"{work.what} need about {_gb(most)} at {dtype}, {_gb(free_bytes)} of {place} are free: "
    reason += f"{plan} ({_gb(needed)})" if chosen else str(plan)
    if not fitting:
        reason += "; this may still be too much"
    return Choice(plan, leaner, reason + ".", bool(fitting))


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
