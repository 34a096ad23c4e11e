"""Renames the parameters of published checkpoints to those of our networks.

Every function takes a whole published state dict, keeps what belongs to its network and renames it. Nothing
is dropped silently: what a function does not know keeps its name, so that strict loading refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

StateDict = Mapping[str, Tensor]

# Inside one ResBlock of the LDM family. "temopral" is how VideoMV's files spell it.
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_LDM_ROOTS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_VIDEOMV_ROOTS = _LDM_ROOTS | {
    "input_blocks.0.1": "transformer_in",
    "local_image_concat": "image_latents_proj_in",
    "local_image_embedding": "image_latents_context_embedding",
    "local_temporal_encoder.layers.0.0.norm": "image_latents_temporal_encoder.norm1",
    "local_temporal_encoder.layers.0.0.fn": "image_latents_temporal_encoder.attn1",
    "local_temporal_encoder.layers.0.1.net.0.0": "image_latents_temporal_encoder.ff.net.0.proj",
    "local_temporal_encoder.layers.0.1.net.2": "image_latents_temporal_encoder.ff.net.2",
}

# Tables that AnimateDiff, diffusers and Animate3D save with their motion modules.
_POSITIONS = (".pos_encoder.pe", ".pos_embed.pe", ".time_pos_embed.pe")
_IP_ADAPTER = ("image_proj.", "ip_adapter.")


def without_prefix(checkpoint: StateDict, prefix: str) -> dict[str, Tensor]:
    """The part of a checkpoint whose names start with `prefix`, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in checkpoint.items() if name.startswith(prefix)}


def videomv_unet(checkpoint: StateDict) -> dict[str, Tensor]:
    """VideoMV's U-Net (text or image) with the names of `VideoMVUNet` / `VideoMVImageUNet`.

    Keys of the reconstructor (`lgm_big.*`) are left out; see `lgm`.
    """
    checkpoint = {name: tensor for name, tensor in checkpoint.items() if not name.startswith("lgm_big.")}
    roots = _VIDEOMV_ROOTS | _unet_block_names(checkpoint)
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
        # The released network adds the image branch twice to its input; diffusers', and ours, once.
        weight = converted["conv_in.weight"].clone()
        weight[:, weight.shape[1] // 2 :] *= 2
        converted["conv_in.weight"] = weight
    return converted


def lgm(checkpoint: StateDict) -> dict[str, Tensor]:
    """The reconstructor, from LGM's own files or from inside a VideoMV checkpoint.

    Empty for a VideoMV checkpoint without one (that of the LAION training): it must come from another file.
    """
    if any(name.startswith("input_blocks.") for name in checkpoint):
        return without_prefix(checkpoint, "lgm_big.")
    return dict(checkpoint)


def mvdream_unet(checkpoint: StateDict) -> dict[str, Tensor]:
    """MVDream's U-Net, from any layout it was published in, with the names of `MultiViewMotionUNet`.

    Known by their keys: the original files (LDM's names after `model.diffusion_model.`), LDM's names alone,
    diffusers' names with `camera_embedding` or `class_embedding`, and stock diffusers with the camera's
    layers in a file of their own (`linear_1`, `linear_2`). Motion modules are left to `motion_modules`.
    """
    checkpoint = without_prefix(checkpoint, "model.diffusion_model.") or {
        name: tensor for name, tensor in checkpoint.items() if "motion_modules." not in name
    }
    roots = {
        **_LDM_ROOTS,
        "camera_embed.0": "camera_embedding.linear_1",
        "camera_embed.2": "camera_embedding.linear_2",
        "class_embedding": "camera_embedding",
        "linear_1": "camera_embedding.linear_1",
        "linear_2": "camera_embedding.linear_2",
        **_unet_block_names(checkpoint),
    }
    return {_rename(name, roots): tensor for name, tensor in checkpoint.items()}


def motion_modules(checkpoint: StateDict) -> dict[str, Tensor]:
    """AnimateDiff's motion modules with the names of `MultiViewMotionUNet`.

    From v1, v2 or v3, the original `.ckpt` or diffusers' adapter. Position tables are left out: they are
    computed. Vivid-ZOO's alignment layers and Animate3D's attention are kept.
    """
    rules = {
        ".temporal_transformer.": ".",
        ".norms.0.": ".norm1.",
        ".norms.1.": ".norm2.",
        ".ff_norm.": ".norm3.",
        ".attention_blocks.0.": ".attn1.",
        ".attention_blocks.1.": ".attn2.",
    }
    converted: dict[str, Tensor] = {}
    for name, tensor in checkpoint.items():
        if "motion_modules." not in name or name.endswith(_POSITIONS):
            continue
        renamed = name
        for theirs, ours in rules.items():
            renamed = renamed.replace(theirs, ours)
        converted[renamed] = tensor
    return converted


def vivid_zoo_unet(checkpoint: StateDict) -> dict[str, Tensor]:
    """`MultiViewMotionUNet` from MVDream, AnimateDiff and, if there is a file of it, trained alignment.

    Alignment that is not in the checkpoint is zero, as at the start of its training.
    """
    converted = mvdream_unet(checkpoint) | motion_modules(checkpoint)
    for name, tensor in list(converted.items()):
        root, found, kind = name.rpartition(".proj_in.")
        if found and ".motion_modules." in root:
            for align in ("align_in", "align_out"):
                converted.setdefault(f"{root}.{align}.{kind}", torch.zeros_like(tensor))
    return converted


def animate3d_unet(checkpoint: StateDict) -> dict[str, Tensor]:
    """`MultiViewMotionUNet` from MVDream 1.5, Animate3D's motion modules, and IP-Adapter for SD 1.5.

    Animate3D's file has whole motion modules and, beside MVDream's attention, `.processor.` layers; what it
    was trained on and did not change is in the other files.
    """
    layers = {name: tensor for name, tensor in checkpoint.items() if ".processor." in name}
    prompt = {name: tensor for name, tensor in checkpoint.items() if name.startswith(_IP_ADAPTER)}
    base = mvdream_unet(
        {name: checkpoint[name] for name in checkpoint.keys() - layers.keys() - prompt.keys()}
    )
    beside = {name: tensor for name, tensor in layers.items() if "motion_modules." not in name}
    return base | beside | motion_modules(checkpoint) | _image_prompt(prompt, base)


def _image_prompt(checkpoint: StateDict, unet: StateDict) -> dict[str, Tensor]:
    """IP-Adapter with the names of `MultiViewMotionUNet`.

    It numbers attention layers, odd ones that attend to text, on the way down, on the way up, in the middle.

    Args:
        unet: the network that it belongs to, with our names.
    """
    key = ".to_k.weight"
    sites = [name.removesuffix(key) for name in unet if name.endswith(f".attn2{key}")]
    ways = ("down_blocks", "up_blocks", "mid_block")
    sites.sort(key=lambda site: (ways.index(site.split(".")[0]), *map(int, re.findall(r"\d+", site)[:-1])))
    roots = {"image_proj.proj": "image_projection.image_embeds", "image_proj.norm": "image_projection.norm"}
    for i, site in enumerate(sites):
        for layer in ("to_k_ip", "to_v_ip"):
            roots[f"ip_adapter.{2 * i + 1}.{layer}"] = f"{site}.processor.{layer}.0"
    return {_rename(name, roots): tensor for name, tensor in checkpoint.items()}


def ldm_vae(checkpoint: StateDict) -> dict[str, Tensor]:
    """Stable Diffusion's image autoencoder as diffusers' `AutoencoderKL`.

    Names may be bare or start with `first_stage_model.`; those of diffusers' own files stay as they are.
    """
    checkpoint = without_prefix(checkpoint, "first_stage_model.") or checkpoint
    last = _count(checkpoint, r"decoder\.up") - 1
    rules: list[tuple[str, str]] = [
        (r"^encoder\.down\.(\d+)\.block\.", r"encoder.down_blocks.\1.resnets."),
        (r"^encoder\.down\.(\d+)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0."),
        # The decoder's levels are numbered by resolution there, in the order of computation here.
        *(
            (rf"^decoder\.up\.{i}\.block\.", f"decoder.up_blocks.{last - i}.resnets.")
            for i in range(last + 1)
        ),
        *(
            (rf"^decoder\.up\.{i}\.upsample\.", f"decoder.up_blocks.{last - i}.upsamplers.0.")
            for i in range(last + 1)
        ),
        (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
        (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
        (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
        (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
        (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
        # Diffusers' own files from before it renamed these.
        (r"\.attentions\.0\.([qkv])(?:uery|ey|alue)\.", r".attentions.0.to_\1."),
        (r"\.attentions\.0\.proj_attn\.", ".attentions.0.to_out.0."),
        (r"\.nin_shortcut\.", ".conv_shortcut."),
        (r"\.norm_out\.", ".conv_norm_out."),
    ]
    converted: dict[str, Tensor] = {}
    for name, tensor in checkpoint.items():
        renamed = name
        for pattern, replacement in rules:
            renamed = re.sub(pattern, replacement, renamed)
        is_linear = ".attentions." in renamed and tensor.ndim == 4  # a convolution with kernel 1 there
        converted[renamed] = tensor[..., 0, 0] if is_linear else tensor
    return converted


def open_clip_text(checkpoint: StateDict) -> dict[str, Tensor]:
    """OpenCLIP's text encoder as transformers' `CLIPTextModel`, without its last layer.

    Stable Diffusion 2, ModelScope and VideoMV read the last layer but one, then normalise; so a model with
    one layer less and the same final norm gives what they read. A file that was cut to that and has
    transformers' names already is taken as it is.
    """
    if not any("transformer.resblocks." in name for name in checkpoint):
        return ldm_clip_text(checkpoint)
    # MVDream 2.1's files hold it with a prefix.
    checkpoint = without_prefix(checkpoint, "cond_stage_model.model.") or checkpoint
    last = f"transformer.resblocks.{_count(checkpoint, 'transformer.resblocks') - 1}."
    unused = (last, "visual.", "text_projection", "logit_scale", "attn_mask")
    roots = {
        "token_embedding": "embeddings.token_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_final": "final_layer_norm",
    }
    used = {name: tensor for name, tensor in checkpoint.items() if not name.startswith(unused)}
    return _clip(used, roots)


def open_clip_image(checkpoint: StateDict) -> dict[str, Tensor]:
    """OpenCLIP's image encoder as transformers' `CLIPVisionModelWithProjection`.

    A file that has transformers' names already is taken as it is.
    """
    if not any(name.startswith("visual.") for name in checkpoint):
        return {name: tensor for name, tensor in checkpoint.items() if not name.endswith("position_ids")}
    roots = {
        "class_embedding": "vision_model.embeddings.class_embedding",
        "conv1": "vision_model.embeddings.patch_embedding",
        "positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "ln_pre": "vision_model.pre_layrnorm",  # spelt like this there
        "ln_post": "vision_model.post_layernorm",
        "proj": "visual_projection.weight",
    }
    converted = _clip(without_prefix(checkpoint, "visual."), roots, layers="vision_model.encoder.layers")
    if "visual_projection.weight" in converted:
        converted["visual_projection.weight"] = converted["visual_projection.weight"].T.contiguous()
    return converted


def ldm_clip_text(checkpoint: StateDict) -> dict[str, Tensor]:
    """Stable Diffusion 1.5's text encoder as transformers' `CLIPTextModel`.

    Names may start with `cond_stage_model.transformer.`.
    """
    checkpoint = without_prefix(checkpoint, "cond_stage_model.transformer.") or checkpoint
    return {
        name.removeprefix("text_model."): tensor  # transformers 5.6 dropped this level
        for name, tensor in checkpoint.items()
        if not name.endswith("position_ids")  # 0, 1, 2, ...: a buffer that old versions saved
    }


def _clip(
    checkpoint: StateDict, roots: Mapping[str, str], layers: str = "encoder.layers"
) -> dict[str, Tensor]:
    """One of OpenCLIP's transformers with transformers' names; `roots` renames what is not in a layer."""
    inside = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "attn.out_proj": "self_attn.out_proj",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    for i in range(_count(checkpoint, "transformer.resblocks")):
        theirs, ours = f"transformer.resblocks.{i}", f"{layers}.{i}"
        roots = {**roots, theirs: ours, **{f"{theirs}.{a}": f"{ours}.{b}" for a, b in inside.items()}}
    converted: dict[str, Tensor] = {}
    for name, tensor in checkpoint.items():
        renamed = _rename(name, roots)
        if ".attn.in_proj_" in renamed:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                projection = renamed.replace(".attn.in_proj_", f".self_attn.{letter}_proj.")
                converted[projection] = part.contiguous()
        else:
            converted[renamed] = tensor
    return converted


def _rename(name: str, roots: Mapping[str, str]) -> str:
    """Replaces the longest leading part of `name` (whole dotted words) that is in `roots`."""
    words = name.split(".")
    for count in range(len(words), 0, -1):
        root = ".".join(words[:count])
        if root in roots:
            return ".".join([roots[root], *words[count:]])
    return name


def _unet_block_names(checkpoint: StateDict) -> dict[str, str]:
    """Where every numbered block of an LDM-style U-Net stands in diffusers' levels.

    Published files number all blocks through; a level ends where a block resamples. So the depth of the
    network and the layers per level are read from the keys.
    """
    modules = {name.rpartition(".")[0] for name in checkpoint}
    names: dict[str, str] = {}

    level, layer = 0, 0
    for i in range(1, _count(checkpoint, "input_blocks")):
        block = f"input_blocks.{i}"
        resampling = modules & {f"{block}.op", f"{block}.0.op"}
        if resampling:
            names[resampling.pop()] = f"down_blocks.{level}.downsamplers.0.conv"
            level, layer = level + 1, 0
        else:
            names |= _layer_names(block, f"down_blocks.{level}", layer)
            layer += 1

    names |= _layer_names("middle_block", "mid_block", 0)
    last = _count(checkpoint, "middle_block") - 1
    names |= _resnet_names(f"middle_block.{last}", "mid_block", 1)

    level, layer = 0, 0
    for i in range(_count(checkpoint, "output_blocks")):
        block = f"output_blocks.{i}"
        names |= _layer_names(block, f"up_blocks.{level}", layer)
        layer += 1
        resampling = modules & {f"{block}.{n}.conv" for n in (1, 2, 3)}  # after 0, 1 or 2 transformers
        if resampling:
            names[resampling.pop()] = f"up_blocks.{level}.upsamplers.0.conv"
            level, layer = level + 1, 0
    return names


def _layer_names(block: str, target: str, layer: int) -> dict[str, str]:
    return _resnet_names(f"{block}.0", target, layer) | {
        f"{block}.1": f"{target}.attentions.{layer}",
        f"{block}.2": f"{target}.temp_attentions.{layer}",
    }


def _resnet_names(block: str, target: str, layer: int) -> dict[str, str]:
    return {f"{block}.{theirs}": f"{target}.resnets.{layer}.{ours}" for theirs, ours in _RESNET.items()} | {
        f"{block}.temopral_conv": f"{target}.temp_convs.{layer}"
    }


def _count(checkpoint: StateDict, group: str) -> int:
    """How many numbered children `group` (a regular expression) has."""
    found = (re.match(rf"{group}\.(\d+)\.", name) for name in checkpoint)
    return 1 + max((int(match[1]) for match in found if match), default=-1)
