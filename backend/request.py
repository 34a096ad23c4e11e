"""What the user asks for: the settings of one generation, checked as soon as they exist."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from . import weights
from .protocol import DioramaError

METHODS = ("reconstruct", "distill")
MODELS = {name: model.description for name, model in weights.MODELS.items()}
MAX_PROMPT_CHARACTERS = 1000
MAX_SEED = 2**31 - 1  # the largest number in a Blender integer field


@dataclasses.dataclass(frozen=True)
class GenerationRequest:
    """The settings of one generation; an object of this class is always valid.

    `None` stands for the model's own default, which is kept with its weights.

    Raises:
        DioramaError: E_PROMPT_EMPTY, E_PROMPT_TOO_LONG, E_MODEL_UNKNOWN, or E_REQUEST for other settings.
    """

    prompt: str
    model: str = "starter"
    seed: int = 0
    views: int | None = None
    steps: int | None = None
    guidance: float | None = None
    mesh: bool = False  # besides the splats, a textured mesh
    method: str = (
        "reconstruct"  # how views become splats: at once, or "distill": slowly, from the model alone
    )
    image: str | None = None  # the file of a picture, for models that are told by one what to make

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str):
            raise DioramaError("E_REQUEST", f"the prompt must be text, not {self.prompt!r}")
        if self.image is not None and (not isinstance(self.image, str) or not self.image):
            raise DioramaError("E_REQUEST", f"image is {self.image!r}; expected the path of a picture")
        if not self.prompt.strip() and self.image is None:
            raise DioramaError("E_PROMPT_EMPTY", "the prompt is empty")
        if len(self.prompt) > MAX_PROMPT_CHARACTERS:
            raise DioramaError(
                "E_PROMPT_TOO_LONG",
                f"the prompt has {len(self.prompt)} characters; at most {MAX_PROMPT_CHARACTERS} are read",
            )
        if self.model not in MODELS:
            raise DioramaError(
                "E_MODEL_UNKNOWN",
                f"there is no model {self.model!r}",
                hint=f"Choose one of: {', '.join(sorted(MODELS))}.",
            )
        _check_integer("seed", self.seed, 0, MAX_SEED)
        if self.views is not None:
            _check_integer("views", self.views, 2, 64)
        if self.steps is not None:
            _check_integer("steps", self.steps, 1, 1000)
        if self.guidance is not None:
            number = isinstance(self.guidance, int | float) and not isinstance(self.guidance, bool)
            if not number or not math.isfinite(self.guidance) or not 0 <= self.guidance <= 100:
                raise DioramaError(
                    "E_REQUEST", f"guidance is {self.guidance!r}; expected a number from 0 to 100"
                )

        if self.method not in METHODS:
            raise DioramaError(
                "E_REQUEST", f"method is {self.method!r}; expected one of: {', '.join(METHODS)}"
            )
        if not isinstance(self.mesh, bool):
            raise DioramaError("E_REQUEST", f"mesh is {self.mesh!r}; expected true or false")

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> GenerationRequest:
        """The request in a JSON object; a missing prompt and settings that do not exist are errors."""
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(data, dict) or "prompt" not in data:
            raise DioramaError("E_REQUEST", f'a request is a JSON object with a "prompt", not {data!r:.200}')
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise DioramaError(
                "E_REQUEST",
                f"unknown settings: {', '.join(map(str, unknown))}",
                hint=f"The settings are: {', '.join(known)}.",
            )
        return cls(**data)


def _check_integer(name: str, value: Any, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise DioramaError(
            "E_REQUEST", f"{name} is {value!r}; expected a whole number from {least} to {most}"
        )
