"""Renames the parameters of TripoSplat's published files, and of those that it is used with, to ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# BiRefNet's backbone there and in transformers; what follows is the same.
_SWIN = (
    (r"^bb\.patch_embed\.proj\.", "bb.swin.embeddings.patch_embeddings.projection."),
    (r"^bb\.patch_embed\.norm\.", "bb.swin.embeddings.norm."),
    (r"^bb\.layers\.", "bb.swin.encoder.layers."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.relative_position_bias_", ".attention.relative_position_bias.relative_position_bias_"),
    (r"\.blocks\.(\d+)\.norm1\.", r".blocks.\1.layernorm_before."),
    (r"\.blocks\.(\d+)\.norm2\.", r".blocks.\1.layernorm_after."),
)


def dinov3(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DINOv3's vision transformer in transformers' older names, which had no `model.` before the layers."""
    own = "embeddings.", "layer.", "norm."
    weights = {
        f"model.{name}" if name.startswith("layer.") else name: tensor
        for name, tensor in checkpoint.items()
        if name.startswith(own)
    }
    if "embeddings.cls_token" in weights:  # only training hides parts of images behind a mask
        weights.setdefault("embeddings.mask_token", torch.zeros_like(weights["embeddings.cls_token"]))
    return weights


def flux2_encoder(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder of FLUX.2's autoencoder, which is named as in diffusers."""
    own = "encoder.", "quant_conv.", "bn.running_"
    return {name: tensor for name, tensor in checkpoint.items() if name.startswith(own)}


def triposplat_flow(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """TripoSplat's flow, whose names are ours; nothing of another file."""
    return dict(checkpoint) if "cam_refiner.mlp.0.weight" in checkpoint else {}


def triposplat_decoder(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """TripoSplat's octree and Gaussian decoder, whose names are ours; nothing of another file."""
    return dict(checkpoint) if "octree.in_proj.weight" in checkpoint else {}


def birefnet(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BiRefNet with its backbone in transformers' names, without what only its training uses."""
    if "decoder.ipt_blk5.conv1.weight" not in checkpoint:
        return {}
    converted: dict[str, Tensor] = {}
    for name, tensor in checkpoint.items():
        if ".conv_ms_spvn_" in name or ".gdt_convs_pred_" in name or name.endswith("relative_position_index"):
            continue
        renamed = re.sub(r"^bb\.norm(\d)\.", lambda m: f"bb.hidden_states_norms.stage{int(m[1]) + 1}.", name)
        for pattern, replacement in _SWIN:
            renamed = re.sub(pattern, replacement, renamed)
        if ".attn.qkv." in renamed:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                converted[renamed.replace(".attn.qkv.", f".attention.{letter}_proj.")] = part.contiguous()
        else:
            converted[renamed] = tensor
        if name.endswith("running_var"):  # a count that only training reads
            converted.setdefault(renamed.replace("running_var", "num_batches_tracked"), torch.tensor(0))
    return converted
