"""Begins the networks of the 192 px starter with the weights of the 96 px starter."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from ..models.checkpoints import read_checkpoint

_NEW_INPUTS = 0.3  # strength of the first weights on channels that the small network did not have
_OF_LATENTS = ("conv_in.", "conv_out.")
_WORDS = "token_embedding.weight"


@torch.no_grad()
def enlarge_denoiser(unet: nn.Module, folder: Path) -> None:
    """Weights of a denoiser of other latents and without an image, for those that both have."""
    small = _weights(folder)
    for name, weight in unet.state_dict().items():
        if name in small and not name.startswith(_OF_LATENTS):
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
