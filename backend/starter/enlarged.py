"""Begins networks with the weights of smaller ones: of more latents or words, or of larger images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from ..models.checkpoints import read_checkpoint
from ..models.lgm import LGM
from ..models.videomv_unet import VideoMVImageUNet
from ..pipelines.latents import encode

_LOUDER_TOKENS, _LOUDER_MEANING = 2.5, 8.0  # until an image is as loud as a text
_LATENTS = 0.5  # of how loud noisy latents are, an image's beside them
_STRAIGHT = 4.0  # where SiLU is nearly a straight line
_SCALES = slice(4, 7)  # of the features of a splat, as logarithms nearly
_WORDS = "token_embedding.weight"


@torch.no_grad()
def with_more_channels(small: AutoencoderKL, channels: int) -> AutoencoderKL:
    """An autoencoder of more latent channels, which do not count at first; the others stay what they are."""
    known = {name: value for name, value in small.config.items() if not name.startswith("_")}
    large = AutoencoderKL(**{**known, "latent_channels": channels})
    count = small.config["latent_channels"]
    means, logvars = torch.arange(count), torch.arange(count) + channels
    kept = torch.cat([means, logvars])  # of the encoder's outputs
    weights = large.state_dict()
    for name, old in small.state_dict().items():
        new, part = weights[name], name.rpartition(".")[0]
        if part == "encoder.conv_out":
            new[kept] = old
        elif part in ("quant_conv", "post_quant_conv"):
            places = kept if part == "quant_conv" else means
            if old.ndim == 1:
                new.zero_()[places] = old
            else:
                new.copy_(torch.eye(len(new))[..., None, None])
                new[places[:, None], places] = old
        elif part == "decoder.conv_in" and old.ndim > 1:
            new.zero_()[:, :count] = old
        else:
            new.copy_(old)
    return large


@torch.no_grad()
def level(autoencoder: AutoencoderKL, images: Tensor, first: int) -> None:
    """Has the latents' channels from `first` on vary by 1, as a denoiser wants them; images stay the same."""
    latents = encode(autoencoder, images)
    spread, middle = latents.std((0, 2, 3)), latents.mean((0, 2, 3))
    spread[:first], middle[:first] = 1, 0
    _shift(autoencoder, middle, spread)


@torch.no_grad()
def centre(autoencoder: AutoencoderKL, images: Tensor) -> None:
    """Has the latents of all channels be 0 on average; images stay the same."""
    middle = encode(autoencoder, images).mean((0, 2, 3))
    _shift(autoencoder, middle, torch.ones_like(middle))


def _shift(autoencoder: AutoencoderKL, middle: Tensor, spread: Tensor) -> None:  # [C] each
    """Latents less `middle`, by `spread`, to and from images as before."""
    middle = middle / autoencoder.config["scaling_factor"]
    count = len(spread)
    into: Any = autoencoder.quant_conv
    out: Any = autoencoder.post_quant_conv
    into.bias[:count] -= middle
    into.bias[:count] /= spread
    into.weight[:count] /= spread[:, None, None, None]
    out.bias += out.weight[..., 0, 0] @ middle
    out.weight *= spread[:, None, None]


@torch.no_grad()
def enlarge_denoiser(unet: VideoMVImageUNet, folder: Path) -> None:
    """Weights of a denoiser that knows no images and fewer latent channels, which do not count at first."""
    small = _weights(folder)
    for name, weight in unet.state_dict().items():
        if name == "conv_in.weight":
            weight.zero_()[:, : small[name].shape[1]] = small[name]
        elif name.startswith("conv_out."):
            weight.zero_()[: len(small[name])] = small[name]
        elif name in small:
            weight.copy_(small[name])


@torch.no_grad()
def strengthen_image(unet: VideoMVImageUNet, no_latents: Tensor, no_meaning: Tensor) -> None:
    """Has an image be heard: its latents come as they are, and are seen as noisy ones are.

    What the first weights of its layers pass on is a tenth of what a text says, and half of it is lost.

    Args:
        no_latents: of an image, [1, C, h, w], for which the tokens stay about the same.
        no_meaning: the same of an embedding, [1, 1, D].
    """
    layers: Any = unet.image_latents_proj_in
    for layer in layers[::2]:
        _pass_on(layer)
    layers[0].bias += _STRAIGHT
    layers[-1].bias -= _STRAIGHT
    noisy, image = unet.conv_in.weight.chunk(2, 1)
    image.copy_(_LATENTS * noisy)
    _amplify(unet.image_latents_context_embedding, no_latents, _LOUDER_TOKENS)
    _amplify(unet.context_embedding, no_meaning, _LOUDER_MEANING)


def _amplify(layers: nn.Sequential, quiet: Tensor, factor: float) -> None:
    """Has all that differs from what comes out for `quiet` differ more."""
    last: Any = layers[-1]
    channels = 1 if isinstance(last, nn.Conv2d) else -1
    said = layers(quiet).movedim(channels, 0).flatten(1).mean(1) - last.bias
    last.bias += (1 - factor) * said
    last.weight *= factor


@torch.no_grad()
def enlarge_text_encoder(
    encoder: CLIPTextModel, tokenizer: PreTrainedTokenizerFast, folder: Path, words: PreTrainedTokenizerFast
) -> None:
    """Weights of a text encoder of fewer words; those that both know keep their meaning.

    Args:
        words: the tokenizer of the encoder in `folder`.
    """
    small = _weights(folder)
    known = words.get_vocab()
    for name, weight in encoder.state_dict().items():
        if name.endswith(_WORDS):
            for word, token in tokenizer.get_vocab().items():
                if word in known:
                    weight[token] = small[name][known[word]]
        elif name in small:
            weight[: len(small[name])] = small[name]  # more words may follow each other


def twice_as_large(half: Mapping[str, Any]) -> LGM:
    """A reconstructor of images twice as large as those of one with this config, with a level more."""
    same = ("layers_per_block", "attention_heads", "anchor")
    return LGM(
        input_size=2 * half["input_size"],
        down_channels=(half["down_channels"][0], *half["down_channels"]),
        down_attention=(False, *half["down_attention"]),
        up_channels=(*half["up_channels"], half["up_channels"][-1]),
        up_attention=(*half["up_attention"], False),
        **{name: half[name] for name in same},
    )


@torch.no_grad()
def enlarge_reconstructor(lgm: LGM, half: LGM) -> None:
    """Weights of a reconstructor of half the image size, with a level less on each side.

    The new outermost levels begin as hardly more than halving and doubling: what the small network makes of
    an image of half the size, this one makes at first of the whole, with four splats, half as wide, for one.
    """
    small = {name.removeprefix("unet."): tensor for name, tensor in half.state_dict().items()}
    levels = len(lgm.config["down_channels"])
    unet: Any = lgm.unet
    weights = dict(lgm.unet.named_parameters())

    # 1. The small network's levels, each one further in, and its last layers.
    for name, old in small.items():
        part, _, rest = name.partition(".")
        if part == "down_blocks":
            level, _, rest = rest.partition(".")
            weights[f"down_blocks.{int(level) + 1}.{rest}"].copy_(old)
        elif name in weights and part != "conv_in":
            weights[name].copy_(old)
    lgm.conv.weight.copy_(small["conv.weight"])
    bias: Any = lgm.conv.bias
    bias.copy_(small["conv.bias"])
    bias[_SCALES] -= math.log(2)

    # 2. Outermost: the image passes, and is halved by what the small network began with.
    _pass_on(unet.conv_in)
    _pass_on_block(unet.down_blocks[0])
    halved = unet.down_blocks[0].downsample
    halved.weight.zero_()[:, : small["conv_in.weight"].shape[1]] = small["conv_in.weight"]
    halved.weight /= unet.down_blocks[0].nets[0].skip_scale
    halved.bias.copy_(small["conv_in.bias"])

    # 3. Outermost on the way back: doubled, and passed on; the last norm takes care of the strength.
    _pass_on(unet.up_blocks[levels - 3].upsample)
    _pass_on_block(unet.up_blocks[levels - 2])


def _pass_on(conv: nn.Conv2d) -> None:
    """A convolution that hands on its first channels as they are."""
    conv.weight.zero_()
    conv.bias.zero_()  # type: ignore[union-attr]
    middle = conv.kernel_size[0] // 2
    count = min(conv.in_channels, conv.out_channels)
    conv.weight[range(count), range(count), middle, middle] = 1


def _pass_on_block(block: Any) -> None:
    """Residual layers that begin without any effect but their strength."""
    for net in block.nets:
        net.conv2.weight.zero_()
        net.conv2.bias.zero_()
        if isinstance(net.shortcut, nn.Conv2d):
            _pass_on(net.shortcut)


def _weights(folder: Path) -> dict[str, Tensor]:
    (path,) = folder.glob("*.safetensors")
    return {name: tensor.float() for name, tensor in read_checkpoint(path).items()}
