"""Animate3D's additions to MVDream with motion: attention over all views, and to the first frame.

Animate3D (arXiv 2407.11398) animates an object of which four clean images are given, one from each side.
They are the first frame of the four videos, and they are told as an image prompt too. `extend` puts all of it
into a network that has neither; its parameters have the names of the published checkpoint, but for the image
prompt's, whose names are diffusers'.

Source: the authors' code (github.com/yanqinJiang/Animate3D, Apache-2.0), as its published inference runs it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0, IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import ImageProjection, SinusoidalPositionalEmbedding
from diffusers.models.resnet import AlphaBlender
from torch import Tensor, nn

IMAGE_TOKENS = 4  # that IP-Adapter makes of an image
# The published defaults of the sine positions.
_TEMPERATURE = 10000
_EPS = 1e-6


def extend(unet: Any, image_embedding_dim: int) -> None:
    """Gives a `MultiViewMotionUNet` Animate3D's layers.

    Args:
        image_embedding_dim: of what the image encoder makes of an image.
    """
    config = unet.config
    unet.image_projection = ImageProjection(image_embedding_dim, config.cross_attention_dim, IMAGE_TOKENS)
    for level in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        for transformer in level.attentions:
            for block in transformer.transformer_blocks:
                width = block.attn1.to_q.in_features
                block.attn1.set_processor(FirstFrameProcessor(width))
                block.attn2.set_processor(
                    IPAdapterAttnProcessor2_0(width, config.cross_attention_dim, (IMAGE_TOKENS,))
                )
        for motion_module in level.motion_modules:
            for block in motion_module.transformer_blocks:
                block.pos_embed = None  # the place in time is no part of what the views of a frame see
                for attention in (block.attn1, block.attn2):
                    width = attention.to_q.in_features
                    attention.set_processor(SpaceTimeProcessor(width, config.motion_max_frames))


class FirstFrameProcessor(nn.Module):
    """Self-attention within a frame, which attends to the first frame too.

    What is found there is added before the attention's output layer. It starts as nothing.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_q_i2v = nn.Linear(channels, channels, bias=False)
        self.to_out_i2v = nn.Linear(channels, channels)
        nn.init.zeros_(self.to_out_i2v.weight)
        nn.init.zeros_(self.to_out_i2v.bias)

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,  # [B * F, V * h * w, C]
        encoder_hidden_states: None = None,
        attention_mask: None = None,
        frames: int = 0,
    ) -> Tensor:  # [B * F, V * h * w, C]
        """Attends; `frames` is F, or 0 for images that have no first frame."""
        if not frames:
            return AttnProcessor2_0()(attn, hidden_states)
        key, value = attn.to_k(hidden_states), attn.to_v(hidden_states)
        y = _attention(attn.to_q(hidden_states), key, value, attn.heads)
        key, value = (
            x.unflatten(0, (-1, frames))[:, :1].expand(-1, frames, -1, -1).flatten(0, 1) for x in (key, value)
        )
        y = y + self.to_out_i2v(_attention(self.to_q_i2v(hidden_states), key, value, attn.heads))
        return attn.to_out[1](attn.to_out[0](y))


class SpaceTimeProcessor(nn.Module):
    """A motion module's attention over time, blended with one over all views of each frame.

    The blend is learnt: sigmoid(mix_factor) of the frame, the rest of the time. Each half adds positions of
    its own: where a pixel is in its image, or in time.
    """

    def __init__(self, channels: int, max_frames: int) -> None:
        super().__init__()
        self.to_q_sp = nn.Linear(channels, channels, bias=False)
        self.to_k_sp = nn.Linear(channels, channels, bias=False)
        self.to_v_sp = nn.Linear(channels, channels, bias=False)
        self.to_out_sp = nn.Linear(channels, channels)
        self.alpha_blender = AlphaBlender(0.0, "learned")
        positions: Any = SinusoidalPositionalEmbedding(channels, max_frames)
        # Computed, not learnt: no part of a checkpoint.
        positions.register_buffer("pe", positions.pe, persistent=False)
        self.time_pos_embed = positions

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,  # [B * V * h * w, F, C]
        encoder_hidden_states: None = None,
        attention_mask: None = None,
        *,
        views: int,
        size: tuple[int, int],  # h, w
    ) -> Tensor:  # [B * V * h * w, F, C]
        """Attends over time and within frames."""
        in_time = AttnProcessor2_0()(attn, self.time_pos_embed(hidden_states))
        places = sine_positions(*size, hidden_states.shape[-1], hidden_states.device)
        places = places.to(hidden_states.dtype).repeat(views, 1)
        tokens = hidden_states.unflatten(0, (-1, len(places))).transpose(1, 2)  # [B, F, V * h * w, C]
        tokens = (tokens + places).flatten(0, 1)
        query, key, value = self.to_q_sp(tokens), self.to_k_sp(tokens), self.to_v_sp(tokens)
        in_frame = self.to_out_sp(_attention(query, key, value, attn.heads))
        in_frame = in_frame.unflatten(0, (-1, hidden_states.shape[1])).transpose(1, 2).flatten(0, 1)
        return self.alpha_blender(in_frame, in_time)


def sine_positions(
    height: int, width: int, channels: int, device: torch.device | None = None
) -> Tensor:  # [h * w, C]
    """Where each pixel of an image is: sines and cosines of its row, then those of its column.

    Source: End-to-End Object Detection with Transformers (arXiv 2005.12872), normalised to one turn.
    """
    frequencies = _TEMPERATURE ** (-(torch.arange(channels // 2, device=device) // 2 * 2) / (channels // 2))
    halves = []
    for count in (height, width):
        place = torch.arange(1, count + 1, device=device) / (count + _EPS) * 2 * math.pi
        angles = place[:, None] * frequencies
        halves.append(torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=-1).flatten(1))
    rows, columns = halves
    grid = rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)
    return torch.cat(grid, dim=-1).flatten(0, 1)


def _attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:  # all [B, L, C]
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
