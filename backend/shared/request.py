"""The settings of one generation, validated on construction."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Collection, Mapping
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
SIDES = {"image": "front", "image_left": "left", "image_back": "back", "image_right": "right"}
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
    shift: float | None = _setting(
        None, "of triposplat: a larger one spends more of the steps near the noise; default: the model's own"
    )
    text_to_image: str | None = _setting(
        None, "a folder of a diffusers pipeline that makes the image of the prompt for models that need one"
    )
    image_left: str | None = _setting(
        None,
        "of four images, the object's left side, which is at the right of its front; the front is --image",
    )
    image_back: str | None = _setting(None, "of four images, the object's back")
    image_right: str | None = _setting(None, "of four images, the object's right side")

    def __post_init__(self) -> None:
        _check_text(self.prompt)
        _check_paths(self.images)
        _check_text_to_image(self.model, self.images, self.text_to_image)
        if not self.prompt.strip() and not self.images:
            raise DioramaError("E_PROMPT_EMPTY", "the prompt is empty")
        if known(self.model).name not in catalogue.MODELS:
            raise DioramaError(
                "E_REQUEST",
                f"{self.model} helps other models and makes nothing alone",
                hint=f"Choose one of: {', '.join(catalogue.MODELS)}.",
            )
        _check_source(self.model, self.images)
        check_integer("seed", self.seed, 0, MAX_SEED)
        if self.views is not None:
            check_integer("views", self.views, 2, 64)
        if self.frames is not None:
            check_integer("frames", self.frames, 2, 64)
            _check_moves(self.model, self.method, self.frames, self.images)
        if self.steps is not None:
            check_integer("steps", self.steps, 1, 1000)
        if self.guidance is not None and not (_is_number(self.guidance) and 0 <= self.guidance <= 100):
            raise DioramaError("E_REQUEST", f"guidance is {self.guidance!r}; expected a number from 0 to 100")
        _check_shift(self.model, self.shift)
        _check_orbit(self.elevation_deg, self.radius)
        for name in ("mesh", "fast"):
            if not isinstance(value := getattr(self, name), bool):
                raise DioramaError("E_REQUEST", f"{name} is {value!r}; expected true or false")
        _check_choice("preset", self.preset, PRESETS)
        _check_choice("method", self.method, METHODS)
        _check_fast(self.method, self.fast)
        _check_gaussians(self.model, self.method, self.gaussians)
        if self.has_four_sides:
            self._check_four_sides()

    @property
    def images(self) -> dict[str, str]:
        """The paths of all images that are given, by their settings: the front, left, back, right."""
        given = {name: getattr(self, name) for name in SIDES}
        return {name: path for name, path in given.items() if path is not None}

    @property
    def has_four_sides(self) -> bool:
        """Whether the user's own images are reconstructed, and nothing is generated."""
        return len(self.images) == len(SIDES)

    def with_images(self, paths: Mapping[str, Any]) -> GenerationRequest:
        """The same with other paths of images, by their settings."""
        return dataclasses.replace(self, **paths)

    def _check_four_sides(self) -> None:
        given = {name: getattr(self, name) for name in ("views", "frames", "steps", "guidance")}
        useless = [f"{name} {value}" for name, value in given.items() if value is not None]
        useless += ["fast"] if self.fast else []
        useless += [f"method {self.method}"] if self.method != METHODS[0] else []
        if useless:
            raise DioramaError(
                "E_REQUEST",
                f"images of four sides are reconstructed as they are; {', '.join(useless)} has no meaning",
                hint="Leave it out, or give a prompt.",
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> GenerationRequest:
        """The request in a JSON object; without prompt or image, or with unknown settings, it is an error."""
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(data, dict) or not {"prompt", *SIDES} & set(data):
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
        flag = field.metadata["flag"] or "--" + field.name.replace("_", "-")
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


def _check_text(prompt: Any) -> None:
    if not isinstance(prompt, str):
        raise DioramaError("E_REQUEST", f"the prompt must be text, not {prompt!r}")
    if any("\ud800" <= c <= "\udfff" for c in prompt):
        raise DioramaError("E_REQUEST", f"the prompt holds half a character: {prompt!a}")
    if "\0" in prompt:  # to Blender, a name ends there
        raise DioramaError("E_REQUEST", f"the prompt holds a NUL character: {prompt!a}")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise DioramaError(
            "E_PROMPT_TOO_LONG",
            f"the prompt has {len(prompt)} characters; at most {MAX_PROMPT_CHARACTERS} are read",
        )


def _check_text_to_image(model: Any, images: Mapping[str, Any], folder: Any) -> None:
    if folder is None:
        return
    if not isinstance(folder, str) or not folder:
        raise DioramaError("E_REQUEST", f"text_to_image is {folder!r}; expected the path of a folder")
    if images or not known(model).needs_image:
        raise DioramaError(
            "E_REQUEST",
            "no image has to be made of the prompt: "
            + ("one is given" if images else f"{model} is conditioned on text"),
            hint="Leave text_to_image out.",
        )


def _check_paths(images: Mapping[str, Any]) -> None:
    for name, path in images.items():
        if not isinstance(path, str) or not path:
            raise DioramaError("E_REQUEST", f"{name} is {path!r}; expected the path of an image")


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


def _check_shift(model: str, shift: float | None) -> None:
    if shift is None:
        return
    if catalogue.MODELS[model].pipeline != "triposplat":
        raise DioramaError("E_REQUEST", f"{model} has no shift; {shift!r} was asked for", "Leave it out.")
    if not (_is_number(shift) and 0.1 <= shift <= 20):
        raise DioramaError("E_REQUEST", f"shift is {shift!r}; expected a number from 0.1 to 20")


def _check_moves(model: str, method: str, frames: int, images: Mapping[str, str]) -> None:
    maker = "distillation" if method == "distill" else model
    if maker == "distillation" or not catalogue.MODELS[model].moves:
        moving = " or ".join(name for name, each in catalogue.MODELS.items() if each.moves)
        raise DioramaError(
            "E_REQUEST",
            f"{maker} makes objects that stand still; {frames} frames were asked for",
            hint=f"Choose {moving} and the usual method, or leave the number of frames out.",
        )
    if images:
        raise DioramaError(
            "E_REQUEST",
            f"{model} makes what moves of a prompt, not of an image; {frames} frames were asked for",
            hint="Give it a prompt, or leave the number of frames out.",
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


def _check_source(model: str, images: Mapping[str, str]) -> None:
    if set(images) - {"image"}:
        _check_sides(model, images)
        return
    if images and not catalogue.MODELS[model].takes_image:
        others = ", ".join(name for name, each in catalogue.MODELS.items() if each.takes_image)
        or_all = " or images of all four sides" if catalogue.MODELS[model].four_sides else ""
        raise DioramaError(
            "E_REQUEST",
            f"{model} is conditioned on text, not on an image",
            hint=f"Give it a prompt{or_all}. Image-conditioned models: {others}.",
        )


def _check_sides(model: str, images: Mapping[str, str]) -> None:
    if not catalogue.MODELS[model].four_sides:
        able = ", ".join(name for name, each in catalogue.MODELS.items() if each.four_sides)
        raise DioramaError(
            "E_REQUEST",
            f"{model} does not reconstruct images of four sides",
            hint=f"Give it one image or a prompt. Models that do: {able}.",
        )
    if missing := [side for name, side in SIDES.items() if name not in images]:
        raise DioramaError(
            "E_REQUEST",
            f"images of four sides are needed; missing: {', '.join(missing)}",
            hint="Give all four: --image (the front), --image-left, --image-back and --image-right.",
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_integer(name: str, value: Any, least: int, most: int) -> None:
    """Refuses, with E_REQUEST, what is no whole number within these limits."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise DioramaError(
            "E_REQUEST", f"{name} is {value!r}; expected a whole number from {least} to {most}"
        )
