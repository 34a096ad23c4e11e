"""What a request conditions the denoiser on: its prompt's text tokens, or its image."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..models.videomv_unet import VideoMVImageUNet
from ..shared.protocol import DioramaError
from .latents import latent_size
from .model import ViewsModel


@dataclass(frozen=True)
class Conditioning:
    """What the denoiser is told, for both branches of the guidance: first the one without, then the one with.

    Attributes:
        context: text tokens.
        image: further keyword arguments of an image-conditioned denoiser.
    """

    context: Tensor  # [2 * B, L, D]
    image: dict[str, Tensor] = field(default_factory=dict)  # [2 * B, ...]


def told_by_text(model: ViewsModel, prompts: list[str]) -> Conditioning:
    """Prompts, against the model's negative prompt; a model that takes images too is given none."""
    settings = model.settings
    suffixed = [with_suffix(prompt, settings.prompt_suffix) for prompt in prompts]
    context = model.encode_prompts([settings.negative_prompt] * len(prompts) + suffixed)
    if not isinstance(model.unet, VideoMVImageUNet):
        return Conditioning(context)
    size = latent_size(model.autoencoder.config, settings.size_px)
    meaning = model.unet.config["image_embedding_dim"]
    return Conditioning(
        context,
        {
            "image_latents": context.new_zeros(len(context), *size),
            "image_embeddings": context.new_zeros(len(context), 1, meaning),
        },
    )


def told_by_image(model: ViewsModel, picture: Tensor) -> Conditioning:
    """A picture of the object, [4, H, W] sRGB with straight alpha, against none.

    The model sees it on the background of its views. Its latents are given to both branches, its meaning to
    one.

    Source: VideoMV (arXiv 2403.12010), the released image-to-view model's inference.
    """
    if model.image_encoder is None:
        raise DioramaError("E_REQUEST", "this model is told what to make by text, not by a picture")
    background = model.settings.rendering.background
    image = (picture[:3] * picture[3:] + background * (1 - picture[3:]))[None].to(model.device)
    latents = model.encode(image)
    meaning = model.encode_image(image)  # [1, 1, D]
    return Conditioning(
        model.encode_prompts([model.settings.negative_prompt, ""]),
        {
            "image_latents": latents.repeat(2, 1, 1, 1),
            "image_embeddings": torch.cat([torch.zeros_like(meaning), meaning]),
        },
    )


def with_suffix(prompt: str, suffix: str) -> str:
    """A prompt with the words that the model was trained to expect after it."""
    return prompt if suffix.strip(" ,") in prompt else prompt + suffix
