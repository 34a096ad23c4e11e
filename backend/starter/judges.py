"""Says what an image of the small world shows: a judge of the starter that has never seen its images."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.constants import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from torch import Tensor, nn

from ..models.checkpoints import load_strictly, read_checkpoint
from ..shared.protocol import DioramaError

SEEN_PX = 96
Judge = TypeVar("Judge", bound=ModelMixin)


class WorldClassifier(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Category and colour of the object in an image; several images of one object are taken together."""

    @register_to_config
    def __init__(self, categories: tuple[str, ...], colors: tuple[str, ...]) -> None:
        super().__init__()
        widths = (32, 48, 64, 96, 128)
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 5, stride=2, padding=2)]
        for before, after in itertools.pairwise(widths):  # no batch norm: training averages weights
            layers += [nn.GroupNorm(8, before), nn.SiLU(), nn.Conv2d(before, after, 3, stride=2, padding=1)]
        self.trunk = nn.Sequential(*layers, nn.GroupNorm(8, widths[-1]), nn.SiLU())
        self.category = nn.Linear(widths[-1], len(categories))
        self.color = nn.Linear(widths[-1], len(colors))

    config: Any

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # [N, 3, H, W] sRGB 0..1
        """Logits of the categories [N, C] and of the colours [N, D]."""
        found = self.features(images)
        return self.category(found), self.color(found)

    def features(self, images: Tensor) -> Tensor:  # [N, 3, H, W] sRGB 0..1 -> [N, D]
        """What is seen in an image, before it is named."""
        return self.trunk(2 * as_seen(images) - 1).mean((2, 3))

    @torch.inference_mode()
    def name(self, images: Tensor) -> list[tuple[str, str]]:  # [B, V, 3, H, W]
        """Category and colour of every object, from all of its views."""
        batch = images.shape[:2]
        category, color = (
            logits.log_softmax(1).unflatten(0, batch).mean(1).argmax(1).tolist()
            for logits in self(images.flatten(0, 1))
        )
        names = self.config.categories, self.config.colors
        return [(names[0][i], names[1][j]) for i, j in zip(category, color, strict=True)]


def as_seen(images: Tensor) -> Tensor:  # [N, 3, H, W] -> [N, 3, h, w]
    """Images as a judge sees them: at 96 px at most, enough to name an object, and not its finest edges."""
    if max(images.shape[-2:]) <= SEEN_PX:
        return images
    return F.interpolate(images, (SEEN_PX, SEEN_PX), mode="bilinear", antialias=True)


def load_judge(kind: type[Judge], folder: Path) -> Judge:
    """A trained judge of that kind.

    Raises:
        DioramaError: E_WEIGHTS_MISSING, or E_WEIGHTS_CORRUPT if the folder holds another network.
    """
    made: Any = kind
    weights = read_checkpoint(folder / SAFETENSORS_WEIGHTS_NAME)
    try:
        config = json.loads((folder / CONFIG_NAME).read_text("utf-8"))
        found = config["_class_name"]
        if found != kind.__name__:
            raise DioramaError(
                "E_WEIGHTS_CORRUPT",
                f"{folder} holds a {found}, not a {kind.__name__}",
                "Choose the folder of weights that our own recipe has written.",
            )
        judge: Judge = made.from_config(config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DioramaError(
            "E_WEIGHTS_CORRUPT",
            f"{folder / CONFIG_NAME} is not that of a {kind.__name__}",
            detail=repr(error),
        ) from error
    load_strictly(judge, {name: tensor.float() for name, tensor in weights.items()}, str(folder))
    return judge.eval()
