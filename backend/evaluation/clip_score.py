"""How well images fit their prompt, by a CLIP model on this computer."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..shared.protocol import DioramaError


def clip_score(images: Tensor, prompt: str, folder: Path) -> float:  # [N, 3, H, W] sRGB 0..1
    """100 times the cosine between images and prompt (0 if negative), averaged over images.

    Args:
        folder: a CLIP model as transformers keeps it: config.json, model.safetensors, tokenizer. Values of
            different models cannot be compared; papers mostly use openai/clip-vit-large-patch14.

    Raises:
        DioramaError: E_WEIGHTS_CORRUPT if the folder holds no CLIP model.

    Source: Hessel et al., CLIPScore (2021), without its factor 2.5.
    """
    from transformers import CLIPImageProcessorPil

    model, tokenizer = _load(folder)
    side = model.config.vision_config.image_size
    prepare = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    levels = (images * 255).round().to(torch.uint8)
    pixels = prepare(images=list(levels), return_tensors="pt")["pixel_values"]
    words = tokenizer([prompt], truncation=True, max_length=model.config.text_config.max_position_embeddings,
                      return_tensors="pt")  # fmt: skip
    with torch.no_grad():
        seen = model(
            input_ids=words["input_ids"], attention_mask=words["attention_mask"], pixel_values=pixels
        )
    cosines = torch.nn.functional.cosine_similarity(seen.image_embeds, seen.text_embeds)
    return float(100 * cosines.clamp_min(0).mean())


@lru_cache(maxsize=1)  # many assets are measured one after the other
def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import CLIPModel, CLIPTokenizer

    try:
        model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        return model, CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DioramaError(
            "E_WEIGHTS_CORRUPT",
            f"{folder} holds no complete CLIP model",
            "It needs config.json, model.safetensors and the tokenizer's files of a CLIP model.",
            str(error),
        ) from error
