"""Conditioning of the denoiser: text tokens of the prompt, an image, or both."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..gaussians.color import over
from ..models.videomv_unet import VideoMVImageUNet
from ..shared.protocol import DioramaError
from .image_source import recentred
from .latents import latent_size
from .model import ViewsModel

OBJECT_PART = 200  # of 256 pixels: how large the object stands in an image that conditions


@dataclass(frozen=True)
class Conditioning:
    """Conditioning for classifier-free guidance of B samples: unconditional rows first, then conditional.

    Attributes:
        context: text tokens.
        image: more keyword arguments of an image-conditioned denoiser.
    """

    context: Tensor  # [2 * B, L, D]
    image: dict[str, Tensor] = field(default_factory=dict)  # [2 * B, ...]


def condition(
    model: ViewsModel,
    prompt: str,
    image: np.ndarray | None,  # [H, W, 4] sRGB, straight alpha
) -> Conditioning:
    """The image of an object, with the prompt where the model knows both together; or else the prompt."""
    if image is None:
        return condition_on_text(model, [prompt])
    size = model.settings.size_px
    beside = prompt if model.settings.prompt_beside_image else ""
    return condition_on_image(model, recentred(image, size, size * OBJECT_PART // 256), beside)


def condition_on_text(model: ViewsModel, prompts: list[str]) -> Conditioning:
    """Prompts, against the model's negative prompt; an image model gets zeros in place of an image."""
    settings = model.settings
    suffixed = [with_suffix(prompt, settings.prompt_suffix) for prompt in prompts]
    context = model.encode_prompts([settings.negative_prompt] * len(prompts) + suffixed)
    if not isinstance(model.unet, VideoMVImageUNet):
        return Conditioning(context)
    size = latent_size(model.autoencoder.config, settings.size_px)
    return Conditioning(
        context,
        {
            "image_latents": context.new_zeros(len(context), *size),
            "image_embeddings": context.new_zeros(len(context), 1, model.unet.config["image_embedding_dim"]),
        },
    )


def condition_on_image(model: ViewsModel, image: Tensor, prompt: str = "") -> Conditioning:
    """An image of the object, [4, H, W] sRGB with straight alpha, on the background of the model's views.

    Its CLIP embedding and the prompt are given to the conditional row of the guidance, its latents to both
    rows; for a model that was trained without any condition too, to the conditional row alone.

    Raises:
        DioramaError: E_REQUEST for a model that is conditioned on text.

    Source: VideoMV (arXiv 2403.12010), the released image-to-view model's inference.
    """
    if model.image_encoder is None:
        raise DioramaError("E_REQUEST", "this model is conditioned on text, not on an image")
    rgb = over(image, model.settings.rendering.background)[None].to(model.device)
    latents = model.encode(rgb)
    without = torch.zeros_like(latents) if model.settings.prompt_beside_image else latents
    embedding = model.encode_image(rgb)  # [1, 1, D]
    return Conditioning(
        model.encode_prompts([model.settings.negative_prompt, prompt]),
        {
            "image_latents": torch.cat([without, latents]),
            "image_embeddings": torch.cat([torch.zeros_like(embedding), embedding]),
        },
    )


def with_suffix(prompt: str, suffix: str) -> str:
    """A prompt with the words that the model was trained to expect after it."""
    return prompt if suffix.strip(" ,") in prompt else prompt + suffix
