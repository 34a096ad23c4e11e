"""How much a denoiser computes, counted without its weights, and how fast a device multiplies."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..models.multiview_motion_unet import MultiViewMotionUNet
from .memory import Work
from .model import DENOISERS

TOKENS = 77  # of CLIP's text encoder
# One evaluation of TripoSplat's flow for both halves of the guidance, counted on its authors' code; the
# unconditional half is the smaller one.
TRIPOSPLAT_CONDITIONAL_FLOP = 23.8e12
TRIPOSPLAT_FLOP = 1.52 * TRIPOSPLAT_CONDITIONAL_FLOP
SIDE = 1024  # of the matrices that are multiplied: larger ones are no faster on CPUs
WITHIN_S = 0.5


def evaluation_flop(folder: Path, work: Work) -> int:
    """Operations of one evaluation of the denoiser for both halves of the guidance batch.

    Args:
        folder: the model's; only its configuration is read.
    """
    config = json.loads((folder / "unet" / "config.json").read_text("utf-8"))
    kind: Any = next(network for network in DENOISERS if network.__name__ == config["_class_name"])
    side, channels = work.latent_px, config["in_channels"]
    with torch.device("meta"):  # where tensors have sizes and no numbers
        net = kind.from_config(config).eval()
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        image = {}
        if width := config.get("image_embedding_dim"):
            image["image_embeddings"] = torch.empty(2, 1, width)
            if kind is not MultiViewMotionUNet:
                image["image_latents"] = torch.empty(2, channels, side, side)
        context = torch.empty(2, TOKENS, config["cross_attention_dim"])
        cameras = torch.empty(2, work.views, 4, 4)
        if kind is MultiViewMotionUNet:
            if width:
                image["image_embeddings"] = torch.empty(2, work.views, width)
            noisy = torch.empty(2, work.views, work.frames, channels, side, side)
            net(noisy, 500, context, cameras, motion=work.frames > 1, **image)
        else:
            net(torch.empty(2, channels, work.views, side, side), 500, context, cameras, **image)
    return int(counter.get_total_flops())


def matmul_flop_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """What the device multiplies matrices with, the best of half a second."""
    a, b = (torch.ones(SIDE, SIDE, dtype=dtype, device=device) for _ in range(2))
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < WITHIN_S:
        start = time.perf_counter()
        float((a @ b)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best
