"""A network of Vivid-ZOO's kind that is as small as can be."""

from __future__ import annotations

from typing import Any

import torch

from backend.models.multiview_motion_unet import MultiViewMotionUNet


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
