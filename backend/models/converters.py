"""Renames the parameters of published checkpoints to those of our networks."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

StateDict = Mapping[str, Tensor]

# Inside one VideoMV ResBlock. "temopral" is how the published files spell it.
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_RENAMED_ROOTS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "input_blocks.0.1": "transformer_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
    "local_image_concat": "image_latents_proj_in",
    "local_image_embedding": "image_latents_context_embedding",
    "local_temporal_encoder.layers.0.0.norm": "image_latents_temporal_encoder.norm1",
    "local_temporal_encoder.layers.0.0.fn": "image_latents_temporal_encoder.attn1",
    "local_temporal_encoder.layers.0.1.net.0.0": "image_latents_temporal_encoder.ff.net.0.proj",
    "local_temporal_encoder.layers.0.1.net.2": "image_latents_temporal_encoder.ff.net.2",
}


def videomv_unet(checkpoint: StateDict) -> dict[str, Tensor]:
    """VideoMV's U-Net (text or image) with the names of `VideoMVUNet` / `VideoMVImageUNet`.

    Keys of the reconstructor (`lgm_big.*`) are left out; see `videomv_lgm`.
    """
    checkpoint = {name: tensor for name, tensor in checkpoint.items() if not name.startswith("lgm_big.")}
    roots = _RENAMED_ROOTS | _unet_block_names(checkpoint)
    converted: dict[str, Tensor] = {}
    for name, tensor in checkpoint.items():
        renamed = _rename(name, roots)
        if ".to_qkv." in renamed:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                converted[renamed.replace("to_qkv", f"to_{letter}")] = part.contiguous()
        elif renamed.endswith((".proj_in.weight", ".proj_out.weight")) and tensor.ndim == 3:
            converted[renamed] = tensor.squeeze(-1)  # a Conv1d over frames with kernel 1 is a Linear
        else:
            converted[renamed] = tensor
    if "image_latents_proj_in.0.weight" in converted:
        # The released network adds the image branch twice; diffusers' one adds it once.
        weight = converted["conv_in.weight"].clone()
        weight[:, weight.shape[1] // 2 :] *= 2
        converted["conv_in.weight"] = weight
    return converted


def videomv_lgm(checkpoint: StateDict) -> dict[str, Tensor]:
    """The reconstructor stored inside a VideoMV checkpoint, with LGM's own names (empty if it has none)."""
    prefix = "lgm_big."
    return {
        name.removeprefix(prefix): tensor for name, tensor in checkpoint.items() if name.startswith(prefix)
    }


def _rename(name: str, roots: Mapping[str, str]) -> str:
    """Replaces the longest leading part of `name` (whole dotted words) that is in `roots`."""
    words = name.split(".")
    for count in range(len(words), 0, -1):
        root = ".".join(words[:count])
        if root in roots:
            return ".".join([roots[root], *words[count:]])
    return name


def _unet_block_names(checkpoint: StateDict) -> dict[str, str]:
    """Where every numbered block of the published U-Net stands in diffusers' levels.

    Published files number all blocks through; a level ends where a block resamples. So the depth of the
    network and the layers per level are read from the keys.
    """
    modules = {re.sub(r"\.(weight|bias)$", "", name) for name in checkpoint}
    names: dict[str, str] = {}

    level, layer = 0, 0
    for i in range(1, _count(checkpoint, "input_blocks")):
        block = f"input_blocks.{i}"
        if f"{block}.op" in modules:
            names[f"{block}.op"] = f"down_blocks.{level}.downsamplers.0.conv"
            level, layer = level + 1, 0
        else:
            names |= _layer_names(block, f"down_blocks.{level}", layer, offset=0)
            layer += 1

    names |= _layer_names("middle_block", "mid_block", 0, offset=0)
    names |= _resnet_names("middle_block.3", "mid_block", 1)

    level, layer = 0, 0
    for i in range(_count(checkpoint, "output_blocks")):
        block = f"output_blocks.{i}"
        names |= _layer_names(block, f"up_blocks.{level}", layer, offset=0)
        layer += 1
        for n in (1, 3):  # after the layers of this block: one without attention, three with
            if f"{block}.{n}.conv" in modules:
                names[f"{block}.{n}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
                level, layer = level + 1, 0
    return names


def _layer_names(block: str, target: str, layer: int, offset: int) -> dict[str, str]:
    return {
        **_resnet_names(f"{block}.{offset}", target, layer),
        f"{block}.{offset + 1}": f"{target}.attentions.{layer}",
        f"{block}.{offset + 2}": f"{target}.temp_attentions.{layer}",
    }


def _resnet_names(block: str, target: str, layer: int) -> dict[str, str]:
    return {f"{block}.{theirs}": f"{target}.resnets.{layer}.{ours}" for theirs, ours in _RESNET.items()} | {
        f"{block}.temopral_conv": f"{target}.temp_convs.{layer}"
    }


def _count(checkpoint: StateDict, group: str) -> int:
    """How many numbered children `group` has."""
    found = (re.match(rf"{group}\.(\d+)\.", name) for name in checkpoint)
    return 1 + max((int(match[1]) for match in found if match), default=-1)
