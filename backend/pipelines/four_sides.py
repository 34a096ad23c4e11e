"""The user's own images of an object's four sides to splats: they are reconstructed, nothing is generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..gaussians.color import over
from ..models.lgm import LGM
from ..shared.ply import GaussianCloud
from ..shared.progress import Progress
from ..shared.protocol import DioramaError
from .conditioning import OBJECT_PART
from .image_source import object_shape, recentred
from .memory import ACTIVATIONS, SPARE, WORKSPACE_BYTES, Size, network_size
from .networks import load_network
from .offload import offload
from .plan import Plan
from .reconstruction import to_cloud
from .settings import ModelSettings
from .three_d_aware import in_world, reconstruct
from .views import refined

PART = "reconstructor"  # the only network of a model that is needed
# One camera that goes around an object sees it about equally high from all sides: twice as high, from half
# as far.
HEIGHTS_RATIO = 1.6


@dataclass(frozen=True)
class Reconstructor:
    """The network that makes images of four sides into splats, and how it is run."""

    network: LGM
    plan: Plan

    @property
    def networks(self) -> tuple[torch.nn.Module, ...]:
        """All that have weights."""
        return (self.network,)


@dataclass(frozen=True)
class ReconstructionWork:
    """A reconstruction, as far as memory is concerned."""

    network: Size
    numbers: float  # of peak activations
    what: str = "splats of four images"
    less: str = ""

    def needed_bytes(self, plan: Plan) -> int:
        """The most memory of the plan's device that is needed at any time: an estimate."""
        weights = 2 * self.network.largest if plan.offload == "sequential" else self.network.weights
        return round(SPARE * plan.dtype.itemsize * (weights + self.numbers)) + WORKSPACE_BYTES


def work_of(folder: Path) -> ReconstructionWork:
    """What a model's files say about it, without loading them.

    Raises:
        DioramaError: E_WEIGHTS_MISSING or E_WEIGHTS_CORRUPT.
    """
    size, config = network_size(folder / PART)
    try:
        numbers = 4 * config["input_size"] ** 2 * config["down_channels"][0] * ACTIVATIONS["LGM"]
    except (KeyError, IndexError, TypeError) as error:
        raise DioramaError(
            "E_WEIGHTS_CORRUPT", f"{folder / PART} holds another network", detail=repr(error)
        ) from error
    return ReconstructionWork(size, numbers)


def load(folder: Path, plan: Plan) -> Reconstructor:
    """Reads the reconstructor's own folder, as planned.

    Raises:
        DioramaError: E_WEIGHTS_MISSING or E_WEIGHTS_CORRUPT.
    """
    network = load_network(LGM, folder, plan)
    offload({PART: network}, plan)
    return Reconstructor(network, plan)


def framed_sides(images: Mapping[str, np.ndarray], size_px: int) -> Tensor:  # [V, 4, size, size]
    """Objects cut out of images, each in the middle of a square, all at one scale.

    Args:
        images: by side, [H, W, 4] sRGB with straight alpha, of any size.

    Raises:
        DioramaError: E_IMAGE if they do not show the object about equally high.
    """
    shapes = {side: object_shape(image) for side, image in images.items()}
    low, high = (pick(shapes, key=lambda side: shapes[side][0]) for pick in (min, max))
    if shapes[high][0] > HEIGHTS_RATIO * shapes[low][0]:
        raise DioramaError(
            "E_IMAGE",
            f"the object is {shapes[high][0]} px high in the image of the {high} and {shapes[low][0]} px in "
            f"that of the {low}",
            hint="All four must show it equally large: take or render them from one distance, with one lens "
            "and at one size, or scale them.",
        )
    longest, object_px = max(map(max, shapes.values())), size_px * OBJECT_PART // 256
    return torch.stack([recentred(image, size_px, object_px, longest) for image in images.values()])


def splats_of_sides(
    reconstructor: Reconstructor,
    settings: ModelSettings,
    rgba: Tensor,  # [4, 4, H, W], as `framed_sides` gives them: front, left, back, right
    cameras: Tensor,  # [4, 4, 4]
    seed: int,
    progress: Progress,
) -> GaussianCloud:
    """Splats of an object, reconstructed from its four sides and fitted to them.

    Source: LGM (arXiv 2402.05054), whose inference is this without the views' generation.
    """
    progress.stage("Reconstructing")
    plan, seen = reconstructor.plan, tuple(range(len(rgba)))
    images = over(rgba, settings.rendering.background)[None].to(plan.device)
    local = reconstruct(images, cameras.to(images), seen, reconstructor.network, settings.fov_deg)
    cloud = to_cloud(in_world(local, cameras.to(images)))
    progress.raise_if_cancelled()
    return refined(cloud, rgba, cameras, settings.fov_deg, seed, progress)
