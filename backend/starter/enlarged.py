"""Begins the networks of the 192 px starter with the weights of the 96 px starter."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from ..models.checkpoints import read_checkpoint

_NEW_INPUTS = 0.3  # strength of the first weights on channels that the small network did not have
_WORDS = "token_embedding.weight"


@torch.no_grad()
def enlarge_autoencoder(autoencoder: AutoencoderKL, folder: Path) -> None:
    """Weights of an autoencoder of pixels, for one of blocks of k × k pixels with more latent channels.

    It then encodes what the small one encodes of the image reduced k times, decodes that with every pixel
    repeated, and is free to put the rest into its further channels.

    Args:
        folder: of the small autoencoder.
    """
    small = _weights(folder)
    channels, more = small["post_quant_conv.weight"].shape[0], autoencoder.config["latent_channels"]
    block = autoencoder.config["in_channels"] // small["encoder.conv_in.weight"].shape[1]
    further = torch.eye(more - channels)[:, :, None, None]
    for name, weight in autoencoder.state_dict().items():
        old = small[name]
        if name == "encoder.conv_in.weight":
            weight.copy_(old.repeat_interleave(block, 1) / block)
        elif name.startswith("decoder.conv_out"):
            weight.copy_(old.repeat_interleave(block, 0))
        elif name == "quant_conv.weight":  # the means alone: no latents are drawn
            weight.zero_()[:channels, : 2 * channels] = old[:channels]
            weight[channels:more, 2 * channels : more + channels] = further
        elif name == "quant_conv.bias":
            weight.zero_()[:channels] = old[:channels]
        elif name == "post_quant_conv.weight":
            weight.zero_()[:channels, :channels] = old
            weight[channels:, channels:] = further
        elif name == "post_quant_conv.bias":
            weight.zero_()[:channels] = old
        else:
            _copy_corner(old, weight)


@torch.no_grad()
def enlarge_denoiser(unet: nn.Module, folder: Path) -> None:
    """Weights of a denoiser of fewer latent channels, without an image, for those that both have."""
    small = _weights(folder)
    for name, weight in unet.state_dict().items():
        if name in small:
            _copy_corner(small[name], weight)


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
            _copy_corner(small[name], weight)


def _weights(folder: Path) -> dict[str, Tensor]:
    (path,) = folder.glob("*.safetensors")
    return {name: tensor.float() for name, tensor in read_checkpoint(path).items()}


def _copy_corner(old: Tensor, weight: Tensor) -> None:
    """Copies what a smaller network has of a weight; what it says of further inputs begins weak."""
    if weight.ndim > 1 and weight.shape[1] > old.shape[1]:
        weight[:, old.shape[1] :] *= _NEW_INPUTS
    weight[tuple(slice(size) for size in old.shape)] = old
