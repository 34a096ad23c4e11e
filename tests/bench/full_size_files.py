"""Weight files as models are published, at full size, with random numbers in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from backend.install.published import NETWORKS
from backend.shared.catalogue import Component, Model, SourceFile
from tests.parity import animate3d_keys
from tests.parity.test_published_keys import published

Shapes = dict[str, tuple[int, ...]]

_POOL = 1 << 24  # random numbers: all tensors are cut from them, since making billions takes minutes
_WORDS = 49_408  # of CLIP's tokenizer


def publish(model: Model, folder: Path) -> None:
    """Writes all files of a model, under their published names, with the names and shapes that they hold."""
    for component in model.components:
        if component.folder == "tokenizer":
            _write_words(folder, component.pad_token)
    pool = torch.randn(_POOL, generator=torch.Generator().manual_seed(0)).half()
    for file, shapes in contents(model).items():
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: _tensor(name, shape, pool) for name, shape in shapes.items()}
        if target.suffix == ".safetensors":
            save_file(tensors, target)
        else:
            torch.save({"state_dict": tensors}, target)


def contents(model: Model) -> dict[str, Shapes]:
    """What each file of weights holds; several networks may be in one."""
    files: dict[str, Shapes] = {}
    for component in model.components:
        for file in component.files:
            if component.folder != "tokenizer" and not file.optional:
                files.setdefault(file.name, {}).update(_shapes(component, file))
    return files


def _tensor(name: str, shape: tuple[int, ...], pool: Tensor) -> Tensor:
    """Numbers of a size that networks can run with."""
    count = torch.Size(shape).numel()
    numbers = pool.repeat(-(-count // len(pool)))[:count] if count > len(pool) else pool[:count]
    values = (numbers / max(1, torch.Size(shape[1:]).numel()) ** 0.5).view(shape)
    if len(shape) < 2:
        values = values.abs() / 10 + 0.5 if name.endswith("var") else values / 10 + name.endswith("weight")
    return values.contiguous()


def _shapes(component: Component, file: SourceFile) -> Shapes:
    """Names and shapes of what a file holds of a network."""
    if component.network in _PUBLISHED:
        return _PUBLISHED[component.network](file.name)
    shapes = _own(component.network)
    if component.network == "dinov3-h":
        return {name.removeprefix("model."): shape for name, shape in shapes.items()}
    if component.network == "stable-diffusion-vae" and not file.name.endswith(".safetensors"):
        return {f"first_stage_model.{name}": shape for name, shape in shapes.items()}
    if component.network == "clip-l-text":
        return {f"cond_stage_model.transformer.text_model.{name}": shape for name, shape in shapes.items()}
    if component.network == "clip-h-text" and file.name.endswith(".bin"):
        return _open_clip()
    return shapes


def _own(network: str) -> Shapes:
    """The names in our network, which are those of the file, or which its converter takes too."""
    with torch.device("meta"):
        made: Any = NETWORKS[network].make()
    return {
        name: tuple(tensor.shape)
        for name, tensor in made.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def _listed(name: str, prefix: str = "") -> Shapes:
    return {prefix + key: tuple(tensor.shape) for key, tensor in published(name).items()}


def _vivid_zoo(file: str) -> Shapes:
    if "sd-v1.5" in file:
        return _listed("mvdream-v1", "model.diffusion_model.")
    motion = published("animatediff-v2")  # names alone: the shapes are those of our network
    own = _own("vivid-zoo-unet")
    converted = NETWORKS["vivid-zoo-unet"].convert(published("mvdream-v1") | motion)
    ours = {id(tensor): name for name, tensor in converted.items()}
    return {name: own[ours[id(tensor)]] for name, tensor in motion.items()}


def _animate3d(file: str) -> Shapes:
    if "sd-v1.5" in file:
        return _listed("mvdream-v1", "model.diffusion_model.")
    return animate3d_keys.ip_adapter() if "ip-adapter" in file else animate3d_keys.animate3d()


_PUBLISHED: dict[str, Callable[[str], Shapes]] = {
    "videomv-t2v-unet": lambda _: _listed("t2v"),
    "videomv-i2v-unet": lambda _: _listed("i2v"),
    "lgm": lambda file: {},  # in the file of the U-Net, and listed with it
    "mvdream-v2-unet": lambda _: _listed("mvdream-v2"),
    "vivid-zoo-unet": _vivid_zoo,
    "animate3d-unet": _animate3d,
    "clip-h-image": lambda file: _open_clip() if file.endswith(".bin") else _own("clip-h-image"),
}


def _open_clip() -> Shapes:
    """OpenCLIP's ViT-H/14: both towers in one file."""
    shapes: Shapes = {
        "token_embedding.weight": (_WORDS, 1024),
        "positional_embedding": (77, 1024),
        "text_projection": (1024, 1024),
        "logit_scale": (),
        "ln_final.weight": (1024,),
        "ln_final.bias": (1024,),
        "visual.class_embedding": (1280,),
        "visual.positional_embedding": (257, 1280),
        "visual.conv1.weight": (1280, 3, 14, 14),
        "visual.proj": (1280, 1024),
    }
    for norm in ("visual.ln_pre", "visual.ln_post"):
        shapes |= {f"{norm}.weight": (1280,), f"{norm}.bias": (1280,)}
    for tower, layers, width in (("", 24, 1024), ("visual.", 32, 1280)):
        for i in range(layers):
            block = f"{tower}transformer.resblocks.{i}"
            for norm in ("ln_1", "ln_2"):
                shapes |= {f"{block}.{norm}.weight": (width,), f"{block}.{norm}.bias": (width,)}
            for layer, out, size in (
                ("attn.out_proj.", width, width),
                ("attn.in_proj_", 3 * width, width),
                ("mlp.c_fc.", 4 * width, width),
                ("mlp.c_proj.", width, 4 * width),
            ):
                shapes |= {f"{block}.{layer}weight": (out, size), f"{block}.{layer}bias": (out,)}
    return shapes


def _write_words(folder: Path, filler: str) -> None:
    letters = [f"{chr(33 + i)}{end}" for i in range(94) for end in ("", "</w>")]
    known = list(dict.fromkeys([filler, *letters, "<|startoftext|>", "<|endoftext|>"]))
    known += [f"word{i}</w>" for i in range(_WORDS - len(known))]
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer/vocab.json").write_text(json.dumps({word: i for i, word in enumerate(known)}))
    (folder / "tokenizer/merges.txt").write_text("#version: 0.2\n")
