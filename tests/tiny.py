"""Networks that are as small as can be, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from backend.models.lgm import LGM
from backend.models.multiview_motion_unet import MultiViewMotionUNet
from backend.pipelines import schedules
from backend.pipelines.model import ViewsModel
from backend.pipelines.settings import ModelSettings
from backend.pipelines.three_d_aware import SplatRendering


def video_unet_sizes(width: int) -> dict[str, Any]:
    """Of a network of VideoMV's kind, with attention on the finer of two levels."""
    return {
        "block_out_channels": (width, 2 * width),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
        "cross_attention_dim": width,
        "attention_head_dim": max(width // 2, 8),
        "transformer_in_heads": max(width // 16, 1),
        "norm_num_groups": width // 4,
    }


def autoencoder(halvings: int, **config: Any) -> AutoencoderKL:
    """Whose latents are of a side that is halved so often."""
    levels = halvings + 1
    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=4,
        **config,
    )


def reconstructor(size_px: int, width: int) -> LGM:
    """With attention on the coarser of two levels."""
    return LGM(
        input_size=size_px,
        down_channels=(width, 2 * width),
        down_attention=(False, True),
        up_channels=(2 * width,),
        up_attention=(False,),
        layers_per_block=1,
        attention_heads=2,
    )


def image_encoder(width: int, meaning: int, size_px: int) -> CLIPVisionModelWithProjection:
    """CLIP's, for images of four patches a side; what it sees has `meaning` numbers."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=width,
            projection_dim=meaning,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=size_px,
            patch_size=size_px // 4,
        )
    )


def model_around(unet: Any, **settings: Any) -> ViewsModel:
    """A model whose other networks have nothing to do; `settings` overrides any of its settings."""
    nobody: Any = None
    usual = {
        "schedule": schedules.VIVID_ZOO, "num_views": 4, "size_px": 32, "elevation_deg": 20.0, "radius": 2.0,
        "fov_deg": 40.0, "steps": 3, "guidance": 3.0, "three_d_aware": (), "input_views": 4,
        "rendering": SplatRendering(40.0, 32, 0.5, "linear"),
    }  # fmt: skip
    return ViewsModel(ModelSettings(**usual | settings), nobody, nobody, unet, nobody, nobody)


def moving_unet(*, seed: int = 0, busy: tuple[str, ...] = (), std: float = 0.2, **config: Any) -> Any:
    """Of width 32, with attention on the finer of two levels; `config` overrides anything.

    Args:
        busy: parts of the names of layers that start at zero, and here do something.
    """
    torch.manual_seed(seed)
    net = MultiViewMotionUNet(
        **{
            "block_out_channels": (32, 32),
            "attention": (True, False),
            "layers_per_block": 1,
            "num_attention_heads": (2, 2),
            "motion_heads": 2,
            "cross_attention_dim": 16,
        }
        | config
    )
    for name, parameter in net.named_parameters():
        if any(part in name for part in busy):
            torch.nn.init.normal_(parameter, std=std)
    return net.eval()
