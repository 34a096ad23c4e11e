"""The settings a model was trained with and is sampled with, kept beside its weights in model.json."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..shared.model_store import SETTINGS
from ..shared.protocol import DioramaError
from .deepcache import DeepCacheConfig
from .samplers import Sampler
from .three_d_aware import SplatRendering


@dataclass(frozen=True)
class Preset:
    """One way to sample a model: how much time it takes, against how near it comes to the published one.

    Attributes:
        fast: whether with DeepCache.
    """

    sampler: Sampler
    steps: int
    fast: bool = False


# Chosen with the starter (docs/speed.md); for the published models, whose weights were not at hand, too.
PRESETS = {"draft": Preset("unipc", 8), "standard": Preset("unipc", 16)}


@dataclass(frozen=True)
class ModelSettings:
    """The settings a model was trained with and is sampled with; kept beside its weights.

    Attributes:
        schedule: keyword arguments of `DDIMScheduler`.
        num_views: of an orbit that begins in front of the object, on +X.
        elevation_deg, radius, fov_deg: of the orbit's cameras; radius in metres.
        steps, guidance: of DDIM and of classifier-free guidance.
        three_d_aware: the 3D-aware steps, as fractions of all steps.
        input_views: how many views the reconstructor sees, evenly spaced.
        rendering: of the reconstructor's splats in 3D-aware steps.
        words: the vocabulary of a model that knows few words; else empty.
        num_frames: of every view; 1 for models of objects that stand still.
        shared_noise: the fraction of the noise's variance that all frames of a view share.
        fast: DeepCache's configuration, for requests that are to be fast.
        presets: "draft" and "standard", and "full" where that is not DDIM with `steps`, as published.
        rounds: of FreeInit: a video is denoised again from the low frequencies of the one before.
        prompt_beside_image: whether the model was trained on an image, a prompt, both and neither: it is told
            both then, and guided away from neither.
        first_frame: of models that animate given views (Animate3D): settings to replace while the same
            network makes these views, without its motion modules.
    """

    schedule: dict[str, Any]
    num_views: int
    size_px: int
    elevation_deg: float
    radius: float
    fov_deg: float
    steps: int
    guidance: float
    three_d_aware: tuple[float, ...]
    input_views: int
    rendering: SplatRendering
    prompt_suffix: str = ""
    negative_prompt: str = ""
    words: tuple[str, ...] = ()
    num_frames: int = 1
    shared_noise: float = 0.0
    fast: DeepCacheConfig = field(default_factory=DeepCacheConfig)
    presets: dict[str, Preset] = field(default_factory=lambda: dict(PRESETS))
    rounds: int = 1
    prompt_beside_image: bool = False
    first_frame: dict[str, Any] | None = None

    def write(self, folder: Path) -> None:
        """Puts them beside the weights."""
        text = json.dumps(dataclasses.asdict(self), indent=1)
        (folder / SETTINGS).write_text(text + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> ModelSettings:
        """The settings beside the weights."""
        return cls.from_dict(json.loads((folder / SETTINGS).read_text("utf-8")))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelSettings:
        """The settings as they are in a file."""
        lists = {name: tuple(data[name]) for name in ("three_d_aware", "words")}
        rendering, fast = SplatRendering(**data["rendering"]), DeepCacheConfig(**data.get("fast", {}))
        given = data.get("presets")  # not in models that were installed before there were presets
        presets = {name: Preset(**preset) for name, preset in given.items()} if given else dict(PRESETS)
        return cls(**{**data, **lists, "rendering": rendering, "fast": fast, "presets": presets})

    def preset(self, name: str) -> Preset:
        """The way to sample that a request names."""
        return self.presets.get(name) or Preset("ddim", self.steps)

    def of_first_frame(self) -> ModelSettings:
        """The settings with which the views are made that are animated then."""
        assert self.first_frame is not None
        return dataclasses.replace(self, **self.first_frame, first_frame=None, num_frames=1, rounds=1)


def read_settings(folder: Path) -> ModelSettings:
    """The settings in a model's folder.

    Raises:
        DioramaError: E_WEIGHTS_MISSING if there are none, E_WEIGHTS_CORRUPT if they are not a model's.
    """
    if not (folder / SETTINGS).is_file():
        raise DioramaError("E_WEIGHTS_MISSING", f"{folder} holds no model: {SETTINGS} is missing")
    try:
        return ModelSettings.read(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DioramaError(
            "E_WEIGHTS_CORRUPT", f"{folder / SETTINGS} cannot be read", detail=str(error)
        ) from error
