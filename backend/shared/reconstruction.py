"""The settings of one fit of splats to a capture, validated on construction like those of a generation."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from .protocol import DioramaError
from .request import MAX_SEED, GenerationRequest, check_integer

# What the command line says of the settings.
OPTIONS = {
    "prompt": "what it shows, in words; default: the folder's name",
    "seed": "equal seeds give equal results",
    "splats": "at most so many",
    "iterations": "of the first frame; each later frame takes a fifth of them",
    "resolution": "images are scaled down to this longest side, in pixels",
    "sh_degree": "of colours that depend on the direction, 0 to 3",
}
MODEL = "capture"  # what an asset names as its model that no model made
DEFAULT_SPLATS, DEFAULT_ITERATIONS = 50_000, 1250


@dataclasses.dataclass(frozen=True)
class ReconstructionRequest:
    """Which capture to fit splats to, and how; an object of this class is always valid.

    Raises:
        DioramaError: E_REQUEST.
    """

    capture: str  # the folder of a transforms.json
    prompt: str = ""  # what it shows, in words: the name of the result; the folder's name if empty
    seed: int = 0
    splats: int = DEFAULT_SPLATS  # at most
    iterations: int = DEFAULT_ITERATIONS  # of the first frame; each later one takes a fifth
    resolution: int = 512  # images are scaled down to this longest side, in pixels
    sh_degree: int = 1  # of colours that depend on the direction; 0: from everywhere alike

    def __post_init__(self) -> None:
        if not isinstance(self.capture, str) or not self.capture:
            raise DioramaError("E_REQUEST", f"capture is {self.capture!r}; expected the path of a folder")
        if not isinstance(self.prompt, str):
            raise DioramaError("E_REQUEST", f"the name must be text, not {self.prompt!r}")
        if not self.prompt.strip():
            object.__setattr__(self, "prompt", Path(self.capture).resolve().name or "capture")
        check_integer("seed", self.seed, 0, MAX_SEED)
        check_integer("splats", self.splats, 100, 10_000_000)
        check_integer("iterations", self.iterations, 10, 1_000_000)
        check_integer("resolution", self.resolution, 16, 8192)
        check_integer("sh_degree", self.sh_degree, 0, 3)

    @property
    def model(self) -> str:
        """What stands where others name a model."""
        return MODEL

    @property
    def image(self) -> None:
        """It has no image to be conditioned on."""
        return None

    @property
    def images(self) -> dict[str, str]:
        """Nor several."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {**dataclasses.asdict(self), "model": MODEL}


Request = GenerationRequest | ReconstructionRequest


def read_request(data: Any) -> Request:
    """The request in a JSON object: a fit if it names a capture, else a generation.

    Raises:
        DioramaError: as either of them, or E_REQUEST for unknown settings.
    """
    if not isinstance(data, dict) or "capture" not in data:
        return GenerationRequest.from_dict(data)
    settings = {name: value for name, value in data.items() if (name, value) != ("model", MODEL)}
    known = [field.name for field in dataclasses.fields(ReconstructionRequest)]
    if unknown := sorted(set(settings) - set(known)):
        raise DioramaError(
            "E_REQUEST",
            f"unknown settings: {', '.join(map(str, unknown))}",
            hint=f"The settings are: {', '.join(known)}.",
        )
    return ReconstructionRequest(**settings)
