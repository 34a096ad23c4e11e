"""The network that denoises all views of an object at once: a video U-Net that knows every camera."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel
from diffusers.models.unets.unet_i2vgen_xl import I2VGenXLTransformerTemporalEncoder
from torch import Tensor, nn

from .deepcache import DeepFeatures, through_levels


class VideoMVUNet(UNet3DConditionModel):
    """VideoMV's text-to-multi-view U-Net: ModelScope's video U-Net with a camera per frame.

    The frames of the video are the views of one object. An MLP of each view's camera-to-world matrix is added
    to the time embedding of that frame; its last layer starts at zero, so that training starts from the video
    model.

    Parameter names are those of diffusers' `UNet3DConditionModel`, plus `camera_embedding.{0,2}`. The
    arguments are diffusers' too, except `transformer_in_heads` (fixed to 8 there) and `joint_attention`.

    Args:
        joint_attention: what attends within a frame sees all of them, as in MVDream (arXiv 2308.16512,
            section 3.1). For few views far apart, where a part of the object is elsewhere in every view; the
            published network has many, and attends over them pixel by pixel.

    Source: VideoMV (arXiv 2403.12010), section 3.1.
    """

    _supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Any  # set by diffusers' `enable_gradient_checkpointing`

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
        joint_attention: bool = False,
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
        self.gradient_checkpointing = False
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
        deep: DeepFeatures | None = None,
    ) -> Tensor:  # [B, C, F, h, w]
        """Predicts noise (or v) for every view.

        Args:
            sample: noisy latents.
            timestep: of the diffusion; one for the batch or one per sample.
            encoder_hidden_states: text tokens, the same for all views.
            camera: camera-to-world (Blender's axes, scene units) of every view; None leaves the cameras out.
            mix_views: False leaves out all layers that see several views, to train on single images.
            deep: DeepCache's features: reused if there are some, else filled.
        """
        embedding = self._per_frame(self._embed_time(timestep, sample), sample, camera)
        return self._denoise(sample, embedding, encoder_hidden_states, mix_views, deep)

    def _embed_time(self, timestep: Tensor | int, sample: Tensor) -> Tensor:  # [B, E]
        timestep = per_sample(timestep, sample)
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
        deep: DeepFeatures | None = None,
    ) -> Tensor:  # [B, C, F, h, w]
        """Down blocks, middle and up blocks; the frames of a sample lie side by side in the batch."""
        layer: Callable[..., Tensor] = _layer
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            layer = partial(self._gradient_checkpointing_func, _layer)
        frames = sample.shape[2]
        together = frames if mix_views and self.config["joint_attention"] else 1
        context = context.repeat_interleave(frames // together, dim=0)
        inputs = (embedding, context, frames if mix_views else None, together)

        hidden = self.conv_in(sample.transpose(1, 2).flatten(0, 1))
        if mix_views:
            hidden = self.transformer_in(hidden, num_frames=frames, return_dict=False)[0]
        hidden = through_levels(self, hidden, lambda block, i, x: layer(block, i, x, *inputs), deep)
        hidden = self.conv_out(self.conv_act(self.conv_norm_out(hidden)))
        return hidden.unflatten(0, (-1, frames)).transpose(1, 2)


class VideoMVImageUNet(VideoMVUNet):
    """VideoMV's image-to-multi-view U-Net: I2VGen-XL's video U-Net with a camera per frame.

    The image comes in three ways: its latents beside the noisy latents of every frame, and, after the text's
    tokens, 64 tokens of its latents and 4 of its CLIP embedding. Parameter names are those of diffusers'
    `I2VGenXLUNet`, plus `camera_embedding.{0,2}`. Of `image_width` the widths of the image's own layers are
    multiples: the number of latent channels (None) where it is as small as the published 4.

    Source: VideoMV (arXiv 2403.12010); I2VGen-XL (arXiv 2311.04145).
    """

    IMAGE_TOKENS = 4

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
        image_embedding_dim: int = 1024,
        image_width: int | None = None,
        joint_attention: bool = False,
    ) -> None:
        VideoMVUNet.__init__.__wrapped__(  # type: ignore[attr-defined]
            self,
            sample_size=sample_size,
            in_channels=2 * in_channels,  # the noisy latents and the image's
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            cross_attention_dim=cross_attention_dim,
            attention_head_dim=attention_head_dim,
            transformer_in_heads=transformer_in_heads,
            joint_attention=joint_attention,
        )
        embed_dim = 4 * block_out_channels[0]
        channels = in_channels
        width = image_width or channels
        self.image_latents_proj_in = nn.Sequential(
            nn.Conv2d(channels, 4 * width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(4 * width, 4 * width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(4 * width, channels, 3, padding=1),
        )
        self.image_latents_temporal_encoder = I2VGenXLTransformerTemporalEncoder(
            dim=channels,
            num_attention_heads=2,
            attention_head_dim=channels,
            ff_inner_dim=4 * channels,
            activation_fn="gelu",
        )
        self.image_latents_context_embedding = nn.Sequential(
            nn.Conv2d(channels, 8 * width, 3, padding=1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d((32, 32)),
            nn.Conv2d(8 * width, 16 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(16 * width, cross_attention_dim, 3, stride=2, padding=1),
        )
        self.context_embedding = nn.Sequential(
            nn.Linear(image_embedding_dim, embed_dim),
            nn.SiLU(),
            nn.Linear(embed_dim, self.IMAGE_TOKENS * cross_attention_dim),
        )
        self.fps_embedding = nn.Sequential(
            nn.Linear(block_out_channels[0], embed_dim), nn.SiLU(), nn.Linear(embed_dim, embed_dim)
        )

    def forward(  # type: ignore[override]
        self,
        sample: Tensor,  # [B, C, F, h, w]
        timestep: Tensor | int,  # [B] or scalar
        encoder_hidden_states: Tensor,  # [B, L, D]
        camera: Tensor | None = None,  # [B, F, 4, 4]
        *,
        image_latents: Tensor,  # [B, C, h, w]
        image_embeddings: Tensor,  # [B, 1, D']
        fps: Tensor | int = 8,  # [B] or scalar
        mix_views: bool = True,
        deep: DeepFeatures | None = None,
    ) -> Tensor:  # [B, C, F, h, w]
        """Predicts v for every view.

        Args:
            image_latents: the image, as the VAE encodes it.
            image_embeddings: the image, as CLIP embeds it (projected, not normalised); zeros for the branch
                without guidance.
            fps: always 8 in VideoMV.
            mix_views, deep: as for the other.
        """
        embedding = self._embed_time(timestep, sample)
        fps = per_sample(fps, sample)
        embedding = embedding + self.fps_embedding(self.time_proj(fps).to(sample.dtype))

        local = self.image_latents_context_embedding(image_latents).flatten(2).transpose(1, 2)  # [B, 64, D]
        image = self.context_embedding(image_embeddings).reshape(sample.shape[0], -1, local.shape[-1])
        context = torch.cat([encoder_hidden_states, local, image], dim=1)

        sample_and_image = torch.cat([sample, self._image_frames(image_latents, sample.shape[2])], dim=1)
        embedding = self._per_frame(embedding, sample, camera)
        return self._denoise(sample_and_image, embedding, context, mix_views, deep)

    def _image_frames(self, image_latents: Tensor, num_frames: int) -> Tensor:  # -> [B, C, F, h, w]
        """The image as a video: itself, then planes that say how far the frame is from it, both encoded."""
        batch, _, height, width = image_latents.shape
        far = torch.arange(1, num_frames).to(image_latents) / max(num_frames - 1, 1)
        planes = far.view(-1, 1, 1, 1).expand(batch, -1, *image_latents.shape[1:])
        frames = torch.cat([image_latents.unsqueeze(1), planes], dim=1)  # [B, F, C, h, w]
        frames = self.image_latents_proj_in(frames.flatten(0, 1)).unflatten(0, (batch, num_frames))
        pixels = frames.permute(0, 3, 4, 1, 2).flatten(0, 2)  # [B * h * w, F, C]
        pixels = self.image_latents_temporal_encoder(pixels)
        return pixels.unflatten(0, (batch, height, width)).permute(0, 4, 3, 1, 2)


def per_sample(number: Tensor | int, sample: Tensor) -> Tensor:  # [B]
    """One number for every sample of a batch."""
    if not isinstance(number, Tensor):  # filled there: a copy to a GPU would wait for all that it has to do
        return torch.full(sample.shape[:1], number, device=sample.device)
    return number.to(sample.device).expand(sample.shape[0])


def _layer(
    block: Any,  # one of diffusers' 3D blocks
    i: int,
    hidden: Tensor,  # [B * F, C, h, w]
    embedding: Tensor,  # [B * F, E]
    context: Tensor,  # [B * F / J, L, D]
    frames: int | None,  # None: no layer may see other frames
    together: int,  # J, how many frames attention within a frame sees: 1, or all of them
) -> Tensor:  # [B * F, C', h, w]
    """Layer `i` of a block: residual, over frames, attention within a frame, attention over frames."""
    hidden = block.resnets[i](hidden, embedding)
    if frames:
        hidden = block.temp_convs[i](hidden, num_frames=frames)
    if i < len(getattr(block, "attentions", ())):
        seen = _stacked(hidden, together)
        seen = block.attentions[i](seen, encoder_hidden_states=context, return_dict=False)[0]
        hidden = _apart(seen, together)
        if frames:
            hidden = block.temp_attentions[i](hidden, num_frames=frames, return_dict=False)[0]
    return hidden


def _stacked(hidden: Tensor, frames: int) -> Tensor:  # [B * F, C, h, w] -> [B, C, F * h, w]
    """All frames of a sample as one image."""
    return hidden.unflatten(0, (-1, frames)).transpose(1, 2).flatten(2, 3)


def _apart(hidden: Tensor, frames: int) -> Tensor:  # [B, C, F * h, w] -> [B * F, C, h, w]
    return hidden.unflatten(2, (frames, -1)).transpose(1, 2).flatten(0, 1)
