"""The network that denoises all views of an object at once: a video U-Net that knows every camera."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet3DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn


class VideoMVUNet(UNet3DConditionModel):
    """VideoMV's text-to-multi-view U-Net: ModelScope's video U-Net with a camera per frame.

    The frames of the video are the views of one object. An MLP of each view's camera-to-world matrix is added
    to the time embedding of that frame; its last layer starts at zero, so that training starts from the video
    model.

    Parameter names are those of diffusers' `UNet3DConditionModel`, plus `camera_embedding.{0,2}`. The
    arguments are diffusers' too, except `transformer_in_heads` (fixed to 8 there).

    Source: VideoMV (arXiv 2403.12010), section 3.1.
    """

    # What diffusers' constructor sets, for the type checker.
    conv_in: nn.Conv2d
    time_proj: nn.Module
    time_embedding: nn.Module
    down_blocks: nn.ModuleList
    mid_block: Any
    up_blocks: nn.ModuleList
    conv_norm_out: nn.GroupNorm
    conv_act: nn.Module
    conv_out: nn.Conv2d

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 4,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = (*3 * ("CrossAttnDownBlock3D",), "DownBlock3D"),
        up_block_types: tuple[str, ...] = ("UpBlock3D", *3 * ("CrossAttnUpBlock3D",)),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        cross_attention_dim: int = 1024,
        attention_head_dim: int = 64,
        transformer_in_heads: int = 8,
    ) -> None:
        # Past its decorator, which would save arguments that are not ours in config.json.
        UNet3DConditionModel.__init__.__wrapped__(  # type: ignore[attr-defined]
            self,
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            cross_attention_dim=cross_attention_dim,
            attention_head_dim=attention_head_dim,
        )
        self.transformer_in = TransformerTemporalModel(
            num_attention_heads=transformer_in_heads,
            attention_head_dim=attention_head_dim,
            in_channels=block_out_channels[0],
            norm_num_groups=norm_num_groups,
        )
        embed_dim = 4 * block_out_channels[0]
        last = nn.Linear(embed_dim, embed_dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.camera_embedding = nn.Sequential(nn.Linear(16, embed_dim), nn.SiLU(), last)

    def forward(  # type: ignore[override]  # diffusers' own arguments would hide ours
        self,
        sample: Tensor,  # [B, C, F, h, w]
        timestep: Tensor | int,  # [B] or scalar
        encoder_hidden_states: Tensor,  # [B, L, D]
        camera: Tensor | None = None,  # [B, F, 4, 4]
        mix_views: bool = True,
    ) -> Tensor:  # [B, C, F, h, w]
        """Predicts noise (or v) for every view.

        Args:
            sample: noisy latents.
            timestep: of the diffusion; one for the batch or one per sample.
            encoder_hidden_states: text tokens, the same for all views.
            camera: camera-to-world (Blender's axes, scene units) of every view; None leaves the cameras out.
            mix_views: False leaves out all layers that see several views, to train on single images.
        """
        embedding = self._per_frame(self._embed_time(timestep, sample), sample, camera)
        return self._denoise(sample, embedding, encoder_hidden_states, mix_views)

    def _embed_time(self, timestep: Tensor | int, sample: Tensor) -> Tensor:  # [B, E]
        timestep = torch.as_tensor(timestep, device=sample.device).expand(sample.shape[0])
        return self.time_embedding(self.time_proj(timestep).to(sample.dtype))

    def _per_frame(self, embedding: Tensor, sample: Tensor, camera: Tensor | None) -> Tensor:
        """One embedding per frame: the sample's [B, E], plus the frame's camera. Returns [B * F, E]."""
        embedding = embedding.repeat_interleave(sample.shape[2], dim=0)
        if camera is None:
            return embedding
        return embedding + self.camera_embedding(camera.reshape(-1, 16).to(sample.dtype))

    def _denoise(
        self,
        sample: Tensor,  # [B, C, F, h, w]
        embedding: Tensor,  # [B * F, E]
        context: Tensor,  # [B, L, D]
        mix_views: bool = True,
    ) -> Tensor:  # [B, C, F, h, w]
        """The U-Net proper."""
        frames = sample.shape[2]
        inputs = (embedding, context.repeat_interleave(frames, dim=0), frames if mix_views else None)

        hidden = self.conv_in(sample.transpose(1, 2).flatten(0, 1))
        if mix_views:
            hidden = self.transformer_in(hidden, num_frames=frames, return_dict=False)[0]
        skips = [hidden]
        block: Any
        for block in self.down_blocks:
            for i in range(len(block.resnets)):
                hidden = _layer(block, i, hidden, *inputs)
                skips.append(hidden)
            for downsample in block.downsamplers or ():
                hidden = downsample(hidden)
                skips.append(hidden)

        for i in range(len(self.mid_block.resnets)):
            hidden = _layer(self.mid_block, i, hidden, *inputs)

        for block in self.up_blocks:
            for i in range(len(block.resnets)):
                hidden = _layer(block, i, torch.cat([hidden, skips.pop()], dim=1), *inputs)
            for upsample in block.upsamplers or ():
                hidden = upsample(hidden, skips[-1].shape[-2:])  # sizes that do not halve evenly come back

        hidden = self.conv_out(self.conv_act(self.conv_norm_out(hidden)))
        return hidden.unflatten(0, (-1, frames)).transpose(1, 2)


def _layer(
    block: Any,  # one of diffusers' 3D blocks
    i: int,
    hidden: Tensor,  # [B * F, C, h, w]
    embedding: Tensor,  # [B * F, E]
    context: Tensor,  # [B * F, L, D]
    frames: int | None,  # None: no layer may see other frames
) -> Tensor:  # [B * F, C', h, w]
    """Layer `i` of a block: residual, over frames, attention within a frame, attention over frames."""
    hidden = block.resnets[i](hidden, embedding)
    if frames:
        hidden = block.temp_convs[i](hidden, num_frames=frames)
    if i < len(getattr(block, "attentions", ())):
        hidden = block.attentions[i](hidden, encoder_hidden_states=context, return_dict=False)[0]
        if frames:
            hidden = block.temp_attentions[i](hidden, num_frames=frames, return_dict=False)[0]
    return hidden
