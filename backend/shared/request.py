"""The settings of one generation, validated on construction."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Collection
from typing import Any, Literal, get_args, get_type_hints

from . import catalogue
from .model_store import known
from .protocol import DioramaError

Method = Literal["reconstruct", "distill"]
METHODS: tuple[Method, ...] = get_args(Method)
Preset = Literal["draft", "standard", "full"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
MAX_PROMPT_CHARACTERS = 1000
MAX_RADIUS = 100.0  # objects are about a metre large: beyond this, a pixel or less of a view
MAX_SEED = 2**31 - 1  # the largest number in a Blender integer field


def _setting(default: Any, help_text: str, flag: str | None = None) -> Any:
    """A field of the request, and what the command lines say of it; `flag` if it is not the field's name."""
    return dataclasses.field(default=default, metadata={"help": help_text, "flag": flag})


@dataclasses.dataclass(frozen=True)
class GenerationRequest:
    """The settings of one generation; an object of this class is always valid.

    `None` stands for the model's own default, which is kept with its weights.

    Raises:
        DioramaError: E_PROMPT_EMPTY, E_PROMPT_TOO_LONG, E_MODEL_UNKNOWN, or E_REQUEST for other settings.
    """

    prompt: str = _setting("", "what to make")
    model: str = _setting("starter", "one of: " + ", ".join(catalogue.MODELS))
    seed: int = _setting(0, "equal seeds give equal results")
    views: int | None = _setting(None, "number of views; default: the model's own")
    frames: int | None = _setting(None, "make it move, in this many frames of a loop")
    preset: Preset = _setting(  # noqa: RUF009 (a field)
        "standard", "draft, standard or full: how the model is sampled; full: as it was published"
    )
    steps: int | None = _setting(None, "denoising steps; default: those of the preset")
    guidance: float | None = _setting(None, "classifier-free guidance scale; default: the model's own")
    mesh: bool = _setting(False, "also make a textured mesh")
    method: Method = _setting(  # noqa: RUF009 (a field)
        METHODS[0], "reconstruct: splats of generated views; distill: slowly, out of the model itself"
    )
    image: str | None = _setting(None, "an image file of the object, for image-conditioned models")
    elevation_deg: float | None = _setting(
        None, "elevation of all cameras, in degrees; default: the model's own", flag="--elevation"
    )
    radius: float | None = _setting(None, "camera distance, in metres; default: the model's own")
    fast: bool = _setting(False, "DeepCache, or fewer steps: nearly the same result in less time")
    gaussians: int | None = _setting(None, "number of splats, for models that let you choose it")

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str):
            raise DioramaError("E_REQUEST", f"the prompt must be text, not {self.prompt!r}")
        if any("\ud800" <= c <= "\udfff" for c in self.prompt):
            raise DioramaError("E_REQUEST", f"the prompt holds half a character: {self.prompt!a}")
        if "\0" in self.prompt:  # to Blender, a name ends there
            raise DioramaError("E_REQUEST", f"the prompt holds a NUL character: {self.prompt!a}")
        if self.image is not None and (not isinstance(self.image, str) or not self.image):
            raise DioramaError("E_REQUEST", f"image is {self.image!r}; expected the path of an image")
        if not self.prompt.strip() and self.image is None:
            raise DioramaError("E_PROMPT_EMPTY", "the prompt is empty")
        if len(self.prompt) > MAX_PROMPT_CHARACTERS:
            raise DioramaError(
                "E_PROMPT_TOO_LONG",
                f"the prompt has {len(self.prompt)} characters; at most {MAX_PROMPT_CHARACTERS} are read",
            )
        known(self.model)
        _check_source(self.model, self.image)
        _check_integer("seed", self.seed, 0, MAX_SEED)
        if self.views is not None:
            _check_integer("views", self.views, 2, 64)
        if self.frames is not None:
            _check_integer("frames", self.frames, 2, 64)
            _check_moves(self.model, self.method, self.frames)
        if self.steps is not None:
            _check_integer("steps", self.steps, 1, 1000)
        if self.guidance is not None and not (_is_number(self.guidance) and 0 <= self.guidance <= 100):
            raise DioramaError("E_REQUEST", f"guidance is {self.guidance!r}; expected a number from 0 to 100")
        _check_orbit(self.elevation_deg, self.radius)
        for name in ("mesh", "fast"):
            if not isinstance(value := getattr(self, name), bool):
                raise DioramaError("E_REQUEST", f"{name} is {value!r}; expected true or false")
        _check_choice("preset", self.preset, PRESETS)
        _check_choice("method", self.method, METHODS)
        _check_fast(self.method, self.fast)
        _check_gaussians(self.model, self.method, self.gaussians)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> GenerationRequest:
        """The request in a JSON object; without prompt or image, or with unknown settings, it is an error."""
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(data, dict) or not {"prompt", "image"} & set(data):
            raise DioramaError(
                "E_REQUEST", f'a request is a JSON object with a "prompt" or an "image", not {data!r:.200}'
            )
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise DioramaError(
                "E_REQUEST",
                f"unknown settings: {', '.join(map(str, unknown))}",
                hint=f"The settings are: {', '.join(known)}.",
            )
        return cls(**data)


def add_arguments(parser: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """Adds a flag for each setting of a request, except for those `without`."""
    kinds = get_type_hints(GenerationRequest)
    for field in dataclasses.fields(GenerationRequest):
        if field.name in without:
            continue
        flag = field.metadata["flag"] or "--" + field.name
        options: dict[str, Any] = {"dest": field.name, "help": field.metadata["help"]}
        if kinds[field.name] is bool:
            options["action"] = "store_true"
        else:
            kind = (get_args(kinds[field.name]) or (kinds[field.name],))[0]  # X of `X | None`
            options["type"] = kind if isinstance(kind, type) else str  # a literal's value is a string
        parser.add_argument(flag, default=argparse.SUPPRESS, **options)


def add_line_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that choose lines of a job file, as farms cut it into tasks."""
    parser.add_argument("--first", type=int, default=1, metavar="LINE", help="the first line to run, from 1")
    parser.add_argument("--last", type=int, metavar="LINE", help="the last line to run; default: all")


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given on a command line with `add_arguments`' flags."""
    names = {field.name for field in dataclasses.fields(GenerationRequest)}
    return {name: value for name, value in vars(args).items() if name in names}


def _check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    if value not in choices:
        raise DioramaError("E_REQUEST", f"{name} is {value!r}; expected one of: {', '.join(choices)}")


def _check_fast(method: str, fast: bool) -> None:
    if fast and method == "distill":
        raise DioramaError(
            "E_REQUEST",
            "distillation has no fast way: in every step it sees other noise, from other cameras",
            hint="Leave fast out, or choose the usual method.",
        )


def _check_gaussians(model: str, method: str, gaussians: int | None) -> None:
    counts = catalogue.MODELS[model].gaussians
    if counts and method == "distill":
        raise DioramaError("E_REQUEST", f"{model} makes splats itself; nothing can be distilled out of it")
    if gaussians is not None and not counts:
        choosing = ", ".join(name for name, each in catalogue.MODELS.items() if each.gaussians)
        raise DioramaError(
            "E_REQUEST",
            f"{model} has a number of Gaussians of its own; {gaussians!r} were asked for",
            hint=f"Leave it out. Models whose number can be chosen: {choosing}.",
        )
    if gaussians is not None and (isinstance(gaussians, bool) or gaussians not in counts):
        raise DioramaError(
            "E_REQUEST",
            f"gaussians is {gaussians!r}; expected one of: {', '.join(map(str, counts))}",
        )


def _check_moves(model: str, method: str, frames: int) -> None:
    maker = "distillation" if method == "distill" else model
    if maker == "distillation" or not catalogue.MODELS[model].moves:
        moving = " or ".join(name for name, each in catalogue.MODELS.items() if each.moves)
        raise DioramaError(
            "E_REQUEST",
            f"{maker} makes objects that stand still; {frames} frames were asked for",
            hint=f"Choose {moving} and the usual method, or leave the number of frames out.",
        )


def _check_orbit(elevation_deg: float | None, radius: float | None) -> None:
    if elevation_deg is not None and not (_is_number(elevation_deg) and -90 < elevation_deg < 90):
        raise DioramaError(
            "E_REQUEST",
            f"elevation_deg is {elevation_deg!r}; expected degrees between -90 and 90",
            hint="Straight from above or below, at 90°, all cameras would stand in one place.",
        )
    if radius is not None and not (_is_number(radius) and 0 < radius <= MAX_RADIUS):
        raise DioramaError(
            "E_REQUEST", f"radius is {radius!r}; expected metres, above 0 and up to {MAX_RADIUS:g}"
        )


def _check_source(model: str, image: str | None) -> None:
    needs_image = catalogue.MODELS[model].conditioned_on == "image"
    if needs_image and image is None:
        raise DioramaError(
            "E_REQUEST",
            f"{model} needs an image of what to make",
            hint="Give it an image file, or let the active camera render it.",
        )
    if image is not None and not needs_image:
        others = ", ".join(name for name, each in catalogue.MODELS.items() if each.conditioned_on == "image")
        raise DioramaError(
            "E_REQUEST",
            f"{model} is conditioned on text, not on an image",
            hint=f"Give it a prompt. Image-conditioned models: {others}.",
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_integer(name: str, value: Any, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise DioramaError(
            "E_REQUEST", f"{name} is {value!r}; expected a whole number from {least} to {most}"
        )
