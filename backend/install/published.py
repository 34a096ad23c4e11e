"""The published networks by name: their sizes, and how their files become ours.

Each is converted once, to a folder with `config.json` and safetensors that `from_pretrained` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    DINOv3ViTConfig,
    DINOv3ViTModel,
)

from ..models.alignment import bases_named_in, check_bases
from ..models.birefnet import BiRefNet
from ..models.checkpoints import load_strictly, read_checkpoint
from ..models.flux2_encoder import Flux2Encoder
from ..models.lgm import LGM
from ..models.multiview_motion_unet import MultiViewMotionUNet
from ..models.triposplat_decoder import TripoSplatDecoder
from ..models.triposplat_flow import TripoSplatFlow
from ..models.videomv_unet import VideoMVImageUNet, VideoMVUNet
from ..shared.protocol import DioramaError
from . import converters, image_model_converters


@dataclass(frozen=True)
class Network:
    """One network of a published model."""

    make: Callable[[], Any]  # at full size
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def _mvdream_v2() -> MultiViewMotionUNet:
    return MultiViewMotionUNet(
        num_attention_heads=(5, 10, 20, 20),
        use_linear_projection=True,
        cross_attention_dim=1024,
        motion=False,
    )


def _animate3d() -> MultiViewMotionUNet:
    # Trained in diffusers, whose motion modules norm all frames together.
    return MultiViewMotionUNet(motion_norm_frames="joint", align=False, mv_attention="animate3d")


def _stable_diffusion_vae() -> AutoencoderKL:
    widths = (128, 256, 512, 512)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths,
        layers_per_block=2,
        latent_channels=4,
        sample_size=256,
        scaling_factor=0.18215,
    )


def _clip_l_text() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            projection_dim=768,
        )
    )


def _clip_h_text() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=23,  # of 24: the models were trained on the last layer but one
            num_attention_heads=16,
            projection_dim=1024,
            hidden_act="gelu",
        )
    )


def _clip_h_image() -> CLIPVisionModelWithProjection:
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=1280,
            intermediate_size=5120,
            num_hidden_layers=32,
            num_attention_heads=16,
            patch_size=14,
            projection_dim=1024,
            hidden_act="gelu",
        )
    )


def _dinov3_h() -> DINOv3ViTModel:
    return DINOv3ViTModel(
        DINOv3ViTConfig(
            hidden_size=1280,
            intermediate_size=5120,
            num_hidden_layers=32,
            num_attention_heads=20,
            use_gated_mlp=True,
            hidden_act="silu",
            num_register_tokens=4,
            image_size=1024,
        )
    )


NETWORKS = {
    "videomv-t2v-unet": Network(VideoMVUNet, converters.videomv_unet),
    "videomv-i2v-unet": Network(VideoMVImageUNet, converters.videomv_unet),
    "mvdream-v1-unet": Network(lambda: MultiViewMotionUNet(motion=False), converters.mvdream_unet),
    "mvdream-v2-unet": Network(_mvdream_v2, converters.mvdream_unet),
    # From two files, MVDream 1.5 and AnimateDiff v2; a third may hold trained alignment.
    "vivid-zoo-unet": Network(MultiViewMotionUNet, converters.vivid_zoo_unet),
    # From three: MVDream 1.5, Animate3D's motion modules, and IP-Adapter.
    "animate3d-unet": Network(_animate3d, converters.animate3d_unet),
    "lgm": Network(LGM, converters.lgm),
    "lgm-fixrot": Network(lambda: LGM(rotation="normalized"), converters.lgm),
    "stable-diffusion-vae": Network(_stable_diffusion_vae, converters.ldm_vae),
    "clip-l-text": Network(_clip_l_text, converters.ldm_clip_text),
    "clip-h-text": Network(_clip_h_text, converters.open_clip_text),
    "clip-h-image": Network(_clip_h_image, converters.open_clip_image),
    "triposplat-flow": Network(TripoSplatFlow, image_model_converters.triposplat_flow),
    "triposplat-decoder": Network(TripoSplatDecoder, image_model_converters.triposplat_decoder),
    "dinov3-h": Network(_dinov3_h, image_model_converters.dinov3),
    "flux2-encoder": Network(Flux2Encoder, image_model_converters.flux2_encoder),
    "birefnet": Network(BiRefNet, image_model_converters.birefnet),
}


def convert(name: str, sources: Sequence[Path], target: Path) -> int:
    """Turns published weight files into the folder `target`, which `from_pretrained` reads.

    Args:
        name: one of `NETWORKS`.
        sources: the published files; most networks come from one.

    Returns:
        How many tensors it has.

    Raises:
        DioramaError: E_WEIGHTS_MISSING if a file is not there or none has such a network in it,
            E_WEIGHTS_CORRUPT if one is damaged or holds another network (the message lists the keys).
    """
    network = NETWORKS[name]
    checkpoint: dict[str, Tensor] = {}
    for source in sources:
        checkpoint |= read_checkpoint(source)
    names = " and ".join(source.name for source in sources)
    weights = network.convert(checkpoint)
    if not weights:
        raise DioramaError(
            "E_WEIGHTS_MISSING",
            f"{names} holds nothing of {name}",
            hint="Take this network from the other file that the model's page names.",
        )
    with torch.device("meta"):
        model = network.make()
    load_strictly(model, weights, names)
    for source in sources:
        if trained_on := bases_named_in(source):
            check_bases(model, trained_on, source)
    model.save_pretrained(target)
    return len(weights)
