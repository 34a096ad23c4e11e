"""TripoSplat on disk and in memory: its settings, its four networks, and how much memory they need."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import DINOv3ViTModel

from ..models.flux2_encoder import Flux2Encoder
from ..models.triposplat_decoder import TripoSplatDecoder
from ..models.triposplat_flow import TripoSplatFlow
from ..shared.model_store import SETTINGS
from ..shared.protocol import DioramaError
from ..shared.request import Preset
from .memory import ACTIVATIONS, RENDERING_BYTES, SPARE, WORKSPACE_BYTES, Size, network_size
from .networks import load_network
from .offload import offload
from .plan import Plan

NETWORKS: dict[str, Any] = {
    "appearance_encoder": DINOv3ViTModel,
    "detail_encoder": Flux2Encoder,
    "flow": TripoSplatFlow,
    "decoder": TripoSplatDecoder,
}
# Numbers that live at once in the flow for every token and every channel besides the weights: those of the
# network's own precision, and single bytes of what is worked out in float32 whatever that is.
_FLOW_NUMBERS, _FLOW_BYTES = 12, 24
_DETAIL_WIDTH = 128  # channels of the image encoder at full resolution


@dataclass(frozen=True)
class TripoSplatSettings:
    """How TripoSplat is used; kept beside its weights. The defaults are its authors'.

    Attributes:
        size_px: side of the image that it is conditioned on.
        shift: how many of the steps are spent near the noise.
        fast_steps: in place of `steps` if it is to be fast: its authors recommend 10 to 20.
        gaussians: how many are made; fewer than the authors' 262,144, which Blender's viewport draws slowly.
        erosion_px: by how much the object's matte is made smaller.
        num_views, view_px: of the views that are rendered of the result.
    """

    size_px: int = 1024
    steps: int = 20
    fast_steps: int = 10
    guidance: float = 3.0
    shift: float = 3.0
    gaussians: int = 131_072
    erosion_px: int = 1
    num_views: int = 8
    view_px: int = 512

    def steps_of(self, preset: Preset, fast: bool = False) -> int:
        """How many steps a request takes that names none."""
        return self.fast_steps if fast or preset == "draft" else self.steps

    def write(self, folder: Path) -> None:
        """Puts them beside the weights."""
        (folder / SETTINGS).write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> TripoSplatSettings:
        """The settings beside the weights.

        Raises:
            DioramaError: E_WEIGHTS_CORRUPT if they are not TripoSplat's.
        """
        try:
            return cls(**json.loads((folder / SETTINGS).read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            message = f"{folder / SETTINGS} does not hold TripoSplat's settings"
            raise DioramaError("E_WEIGHTS_CORRUPT", message, detail=str(error)) from error


@dataclass(frozen=True)
class TripoSplatModel:
    """All networks that make an image into splats."""

    settings: TripoSplatSettings
    appearance_encoder: DINOv3ViTModel
    detail_encoder: Flux2Encoder
    flow: TripoSplatFlow
    decoder: TripoSplatDecoder
    plan: Plan = Plan()

    @property
    def networks(self) -> tuple[torch.nn.Module, ...]:
        """All that have weights."""
        return self.appearance_encoder, self.detail_encoder, self.flow, self.decoder


@dataclass(frozen=True)
class TripoSplatWork:
    """A generation, as far as memory is concerned."""

    networks: dict[str, Size]
    tokens: int
    width: int
    settings: TripoSplatSettings
    what: str
    less: str

    def needed_bytes(self, plan: Plan) -> int:
        """The most memory of the plan's device that is needed at any time: an estimate."""
        number, pixels = plan.dtype.itemsize, self.settings.size_px**2
        activations = {
            "appearance_encoder": 0.0,
            "detail_encoder": number * pixels * _DETAIL_WIDTH * ACTIVATIONS["encode"],
            "flow": self.tokens * self.width * (_FLOW_NUMBERS * number + _FLOW_BYTES),
            "decoder": self.settings.num_views * self.settings.view_px**2 * RENDERING_BYTES,
        }
        everything = sum(size.weights for size in self.networks.values())
        resident = {
            name: {"none": everything, "model": size.weights, "sequential": 2 * size.largest}[plan.offload]
            for name, size in self.networks.items()
        }
        most = max(number * resident[name] + activations[name] for name in self.networks)
        return round(SPARE * most) + WORKSPACE_BYTES


def work_of(folder: Path, settings: TripoSplatSettings, gaussians: int) -> TripoSplatWork:
    """What a model's files say about it, without loading them.

    Raises:
        DioramaError: E_WEIGHTS_MISSING or E_WEIGHTS_CORRUPT, naming the network.
    """
    sizes, configs = {}, {}
    for part in NETWORKS:
        sizes[part], configs[part] = network_size(folder / part)
    try:
        image_tokens = (settings.size_px // configs["appearance_encoder"]["patch_size"]) ** 2
        tokens = configs["flow"]["latent_tokens"] + image_tokens
        width = configs["flow"]["width"]
    except KeyError as error:
        raise DioramaError(
            "E_WEIGHTS_CORRUPT", f"a config.json in {folder} is of another network", detail=repr(error)
        ) from error
    return TripoSplatWork(
        sizes, tokens, width, settings, f"{gaussians:,} Gaussians", f"{gaussians:,} Gaussians"
    )


def load(folder: Path, plan: Plan) -> TripoSplatModel:
    """Reads TripoSplat's folder, as planned.

    Raises:
        DioramaError: E_WEIGHTS_MISSING or E_WEIGHTS_CORRUPT naming the network at fault.
    """
    settings = TripoSplatSettings.read(folder)
    loaded: dict[str, Any] = {}
    for part, network in NETWORKS.items():
        encodes = part.endswith("encoder")  # as published: these in bfloat16, which has float32's range
        dtype = torch.bfloat16 if encodes and plan.dtype == torch.float16 else plan.dtype
        loaded[part] = load_network(network, folder / part, plan, dtype)
    offload(loaded, plan)
    return TripoSplatModel(settings, **loaded, plan=plan)
