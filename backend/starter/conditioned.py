"""Trains the starter's denoiser that text, an image or both condition, with both of its encoders."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from ..models.videomv_unet import VideoMVImageUNet
from ..pipelines.model import embed_images
from ..training.denoiser import DenoiserObjective, ViewsStage
from .objects.encoded import PHOTO_PX


class ConditionedObjective(nn.Module):
    """The denoiser's objective; what an image means is learnt with it, as its words are."""

    def __init__(
        self,
        unet: VideoMVImageUNet,
        text_encoder: CLIPTextModel,
        image_encoder: CLIPVisionModelWithProjection,
        schedule: dict[str, Any],
        stage: ViewsStage,
    ) -> None:
        super().__init__()
        self.denoiser = DenoiserObjective(unet, text_encoder, schedule, stage)
        self.image_encoder = image_encoder

    def forward(
        self,
        photos: Tensor,  # [B, 3, S, S] sRGB 0..1
        has_meaning: Tensor,  # [B], 0 where the denoiser is not told what the photo means
        **batch: Tensor,  # of `DenoiserObjective`
    ) -> Tensor:
        meaning = embed_images(self.image_encoder, photos) * has_meaning[:, None, None]
        return self.denoiser(image_embeddings=meaning, **batch)


def make_image_encoder(width: int) -> CLIPVisionModelWithProjection:
    """CLIP's image encoder, small."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=PHOTO_PX,
            patch_size=PHOTO_PX // 8,
        )
    )
