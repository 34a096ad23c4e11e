"""What a request may ask for: conditioning that the model has, and where cameras can stand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from backend.shared import catalogue
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest

SIDES = {"image": "f.png", "image_left": "l.png", "image_back": "b.png", "image_right": "r.png"}


def test_every_model_is_conditioned_on_text_or_an_image() -> None:
    assert all(model.conditioned_on for model in catalogue.MODELS.values())
    takes_image = {name for name, model in catalogue.MODELS.items() if model.takes_image}
    needs_image = {name for name, model in catalogue.MODELS.items() if model.needs_image}
    assert needs_image <= takes_image
    # what sees the image is a network that only these models have, and one that sees its own first frame
    sees = {
        name
        for name, model in catalogue.MODELS.items()
        if any(part.folder in ("image_encoder", "detail_encoder") for part in model.components)
    }
    assert sees == needs_image | {"animate3d"}
    assert takes_image - needs_image == {"starter"}  # whose networks are in the extension


@pytest.mark.parametrize("gaussians", [0, 100_000, True, "65536"])
def test_number_of_gaussians_is_one_that_the_model_can_make(gaussians: object) -> None:
    words = {"image": "a.png", "model": "triposplat"}
    assert GenerationRequest(**words, gaussians=65_536).gaussians == 65_536
    with pytest.raises(DioramaError, match=r"E_REQUEST.*32768, 65536, 131072, 262144"):
        GenerationRequest(**words, gaussians=gaussians)
    with pytest.raises(DioramaError, match=r"E_REQUEST.*starter has a number of Gaussians of its own"):
        GenerationRequest("a tree", gaussians=65_536)
    with pytest.raises(DioramaError, match=r"E_REQUEST.*nothing can be distilled"):
        GenerationRequest(**words, method="distill")


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"prompt": "a car", "text_to_image": "folder"}, "E_REQUEST", "starter is conditioned on text"),
        ({"prompt": "a car", "model": "background-removal"}, "E_REQUEST", "makes nothing alone"),
        ({"prompt": "a car", "image": "car.png", "model": "mvdream-lgm"}, "E_REQUEST", "on text"),
        ({"image": "car.png", "frames": 8}, "E_REQUEST", "of a prompt, not of an image; 8 frames"),
        ({"image": "", "model": "videomv-i2v"}, "E_REQUEST", "path of an image"),
        ({"image": "f.png", "image_back": "b.png"}, "E_REQUEST", "missing: left, right"),
        ({"image_left": "l.png", "image_back": "b.png", "image_right": "r.png"}, "E_REQUEST", "front"),
        ({**SIDES, "image_back": 3}, "E_REQUEST", "image_back is 3"),
        ({**SIDES, "model": "triposplat"}, "E_REQUEST", "does not reconstruct images of four sides"),
        ({**SIDES, "views": 8, "fast": True}, "E_REQUEST", "views 8, fast has no meaning"),
        ({**SIDES, "method": "distill"}, "E_REQUEST", "method distill has no meaning"),
        ({"prompt": "a car", "shift": 2}, "E_REQUEST", "starter has no shift"),
        ({"image": "a.png", "model": "triposplat", "shift": 0}, "E_REQUEST", "from 0.1 to 20"),
        ({}, "E_PROMPT_EMPTY", "empty"),
        ({"prompt": "a car", "model": "nothing"}, "E_MODEL_UNKNOWN", "no model 'nothing'"),
        ({"prompt": "a car", "model": ["starter"]}, "E_MODEL_UNKNOWN", "no model"),
        ({"prompt": "a car", "elevation_deg": 90}, "E_REQUEST", "between -90 and 90"),
        ({"prompt": "a car", "elevation_deg": -90.0}, "E_REQUEST", "between -90 and 90"),
        ({"prompt": "a car", "elevation_deg": math.nan}, "E_REQUEST", "elevation_deg is nan"),
        ({"prompt": "a car", "elevation_deg": "15"}, "E_REQUEST", "elevation_deg is '15'"),
        ({"prompt": "a car", "elevation_deg": True}, "E_REQUEST", "elevation_deg is True"),
        ({"prompt": "a car", "radius": 0}, "E_REQUEST", "metres, above 0"),
        ({"prompt": "a car", "radius": -1.5}, "E_REQUEST", "metres, above 0"),
        ({"prompt": "a car", "radius": math.inf}, "E_REQUEST", "radius is inf"),
        ({"prompt": "a car", "fast": "yes"}, "E_REQUEST", "fast is 'yes'; expected true or false"),
        ({"prompt": "a car", "fast": True, "method": "distill"}, "E_REQUEST", "distillation has no fast way"),
    ],
)
def test_what_cannot_be_made_is_refused_in_words(settings: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(DioramaError, match=words) as refused:
        GenerationRequest(**settings)
    assert refused.value.code == code
    assert refused.value.hint


@pytest.mark.parametrize(
    "settings",
    [
        {"prompt": "a car", "elevation_deg": -89.5, "radius": 2},
        {"image": "car.png", "model": "videomv-i2v"},
        {"prompt": "a car", "image": "car.png"},
        {"prompt": "a car", "model": "triposplat", "text_to_image": "/models/sdxl"},
        SIDES,
        {"prompt": "a car", "fast": True},
    ],
)
def test_request_survives_json(settings: dict[str, Any]) -> None:
    request = GenerationRequest.from_dict(settings)
    assert GenerationRequest.from_dict(request.to_dict()) == request


def test_request_of_nothing_is_refused() -> None:
    with pytest.raises(DioramaError, match='"prompt" or an "image"'):
        GenerationRequest.from_dict({"seed": 1})
