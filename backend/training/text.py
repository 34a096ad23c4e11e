"""The starter's words: a tokenizer that knows a list of them, and captions as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

TOKENS = 12  # of a prompt, with the one that begins it
PAD, BEGIN, UNKNOWN = "[pad]", "[begin]", "[unknown]"


def make_tokenizer(words: Sequence[str], tokens: int = TOKENS) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, blind to case."""
    vocabulary = {word: i for i, word in enumerate([PAD, BEGIN, UNKNOWN, *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, vocabulary[BEGIN])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        unk_token=UNKNOWN,
        model_max_length=tokens,
    )


def make_text_encoder(tokenizer: PreTrainedTokenizerFast, width: int) -> CLIPTextModel:
    """CLIP's text encoder, small."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.pad_token_id,  # ends at the first padding
        )
    )


def tokens_of(tokenizer: PreTrainedTokenizerFast, captions: list[str]) -> Tensor:  # [B, L]
    """Captions as numbers, all of one length."""
    return tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
