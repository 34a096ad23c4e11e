"""Cuts the object out of photographs, where the model for that is installed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from ..models.birefnet import BiRefNet, resized
from ..shared import model_store
from ..shared.catalogue import COMPANIONS
from ..shared.progress import Progress
from .image_source import Matte
from .memory import SPARE, WORKSPACE_BYTES, Size, network_size
from .model_cache import forget
from .networks import load_network
from .offload import offload
from .plan import Plan
from .planned import planned

NAME = "background-removal"
PART = "matting"
SIZE_PX = 1024  # at which it was trained
# Numbers that live at once besides the weights, for every pixel: `python -m tests.bench.activation_memory`.
ACTIVATIONS = 550


@dataclass(frozen=True)
class MattingWork:
    """Cutting out one object, as far as memory is concerned."""

    network: Size
    what: str = "cutting out the object"
    less: str = ""

    def needed_bytes(self, plan: Plan) -> int:
        """The most memory of the plan's device that is needed at any time: an estimate."""
        weights = 2 * self.network.largest if plan.offload == "sequential" else self.network.weights
        return round(SPARE * plan.dtype.itemsize * (weights + SIZE_PX**2 * ACTIVATIONS)) + WORKSPACE_BYTES


def installed_matte(progress: Progress) -> Matte | None:
    """What tells objects from any background; None if its model is not installed."""
    if not model_store.state(COMPANIONS[NAME], model_store.models_root()).installed:
        return None
    return partial(_matte, progress=progress)


def _matte(rgb: np.ndarray, progress: Progress) -> np.ndarray:  # [H, W, 3] -> [H, W]
    folder = model_store.require(NAME) / PART
    progress.stage("Cutting out the object")

    def make(plan: Plan) -> np.ndarray:
        forget()  # the plan counts on its memory
        network = load_network(BiRefNet, folder, plan)
        offload({PART: network}, plan)
        pixels = torch.from_numpy(np.ascontiguousarray(rgb)).movedim(-1, 0)[None].to(plan.device)
        return alpha_of(network, pixels)[0, 0].cpu().numpy()

    return planned(MattingWork(network_size(folder)[0]), make, progress)


def alpha_of(network: BiRefNet, images: Tensor) -> Tensor:  # [B, 3, H, W] sRGB 0..1 -> [B, 1, H, W]
    """How much of every pixel is object.

    Source: BiRefNet's released inference.
    """
    mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    inputs = (resized(images, (SIZE_PX, SIZE_PX)) - mean) / std
    return resized(network(inputs.to(network.dtype)).float().sigmoid(), images.shape[-2:])
