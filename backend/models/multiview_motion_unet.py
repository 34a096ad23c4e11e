"""The network that denoises an object from several views while it moves: MVDream and AnimateDiff in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from . import animate3d
from .deepcache import DeepFeatures, through_levels
from .videomv_unet import per_sample

# GroupNorms see one frame, or all frames of a view as one image.
NormFrames = Literal["per_frame", "joint"]


class MultiViewMotionUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Vivid-ZOO's U-Net. Without motion it is MVDream; with one view and no camera it is AnimateDiff.

    Within a frame, self-attention sees all views (MVDream). After each attention, a motion module lets every
    pixel of a view see itself in the other frames (AnimateDiff). Alignment layers, two `Linear(C, C)` beside
    each motion module's projections, bring the features of the one to what the other was trained on; they
    start at zero and are all that Vivid-ZOO trains.

    Parameter names are those of diffusers' `UNetMotionModel`, plus `camera_embedding.linear_{1,2}` and
    `motion_modules.N.align_{in,out}`. The defaults are MVDream 1.5 with AnimateDiff v2.

    Args:
        attention: which levels, from fine to coarse, attend within a frame.
        num_attention_heads: of every level.
        camera_dim: numbers that describe a camera; None for networks that know no cameras.
        motion: with motion modules.
        motion_mid_block: also in the middle (AnimateDiff v2; not v1 and v3).
        motion_norm_frames: "per_frame" as AnimateDiff computes it, "joint" for what was trained in diffusers.
        resnet_norm_frames: "joint" only for AnimateDiff v1.
        align: with Vivid-ZOO's alignment layers.
        mv_attention: "animate3d" for its layers, see `backend.models.animate3d`; it norms motion jointly.
        image_embedding_dim: of what its image encoder makes of an image.

    Source: Vivid-ZOO (arXiv 2406.08659), section 3; MVDream (2308.16512); AnimateDiff (2307.04725).
    """

    _supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Any  # set by diffusers' `enable_gradient_checkpointing`
    config: Any

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 4,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        attention: tuple[bool, ...] = (True, True, True, False),
        layers_per_block: int = 2,
        num_attention_heads: tuple[int, ...] = (8, 8, 8, 8),
        use_linear_projection: bool = False,
        cross_attention_dim: int = 768,
        norm_num_groups: int = 32,
        camera_dim: int | None = 16,
        motion: bool = True,
        motion_mid_block: bool = True,
        motion_heads: int = 8,
        motion_layers: int = 1,
        motion_max_frames: int = 32,
        motion_norm_frames: NormFrames = "per_frame",
        resnet_norm_frames: NormFrames = "per_frame",
        align: bool = True,
        mv_attention: Literal["none", "animate3d"] = "none",
        image_embedding_dim: int = 1024,
    ) -> None:
        super().__init__()
        widths = list(block_out_channels)
        embed_dim = 4 * widths[0]
        self.gradient_checkpointing = False
        self.time_proj = Timesteps(widths[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(widths[0], embed_dim)
        self.camera_embedding: Any = None
        if camera_dim is not None:
            self.camera_embedding = TimestepEmbedding(camera_dim, embed_dim)
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)

        def block(inputs: list[int], width: int, attentions: int, heads: int, motions: int) -> _Block:
            """Layers of one level; the first `attentions` and `motions` of them attend and move."""
            return _Block(
                resnets=[
                    ResnetBlock2D(
                        in_channels=channels,
                        out_channels=width,
                        temb_channels=embed_dim,
                        groups=norm_num_groups,
                        eps=1e-5,
                    )
                    for channels in inputs
                ],
                attentions=[
                    Transformer2DModel(
                        heads,
                        width // heads,
                        in_channels=width,
                        cross_attention_dim=cross_attention_dim,
                        norm_num_groups=norm_num_groups,
                        use_linear_projection=use_linear_projection,
                    )
                    for _ in range(attentions)
                ],
                motion_modules=[
                    MotionModule(
                        width,
                        motion_heads,
                        motion_layers,
                        motion_max_frames,
                        norm_num_groups,
                        motion_norm_frames,
                        align,
                    )
                    for _ in range(motions if motion else 0)
                ],
            )

        self.down_blocks = nn.ModuleList()
        width, skips = widths[0], [widths[0]]
        for level, channels in enumerate(widths):
            inputs = [width] + [channels] * (layers_per_block - 1)
            attentions = layers_per_block * attention[level]
            down = block(inputs, channels, attentions, num_attention_heads[level], layers_per_block)
            skips += [channels] * layers_per_block
            if level < len(widths) - 1:
                down.downsamplers = nn.ModuleList(
                    [Downsample2D(channels, use_conv=True, padding=1, name="op")]
                )
                skips.append(channels)
            self.down_blocks.append(down)
            width = channels

        self.mid_block = block([width, width], width, 1, num_attention_heads[-1], int(motion_mid_block))

        self.up_blocks = nn.ModuleList()
        for level in reversed(range(len(widths))):
            channels, layers = widths[level], layers_per_block + 1
            inputs = [skips.pop() + (channels if i else width) for i in range(layers)]
            up = block(inputs, channels, layers * attention[level], num_attention_heads[level], layers)
            if level > 0:
                up.upsamplers = nn.ModuleList([Upsample2D(channels, use_conv=True)])
            self.up_blocks.append(up)
            width = channels

        self.conv_norm_out = nn.GroupNorm(norm_num_groups, width, eps=1e-5)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

        self.image_projection: Any = None
        if mv_attention == "animate3d":
            animate3d.extend(self, image_embedding_dim)

    def forward(
        self,
        sample: Tensor,  # [B, V, F, C, h, w]
        timestep: Tensor | int,  # [B] or scalar
        encoder_hidden_states: Tensor,  # [B, L, D]
        camera: Tensor | None = None,  # [B, V, 4, 4]
        motion: bool = True,
        image_embeddings: Tensor | None = None,  # [B, V, D]
        deep: DeepFeatures | None = None,
    ) -> Tensor:  # [B, V, F, C, h, w]
        """Predicts the noise of every frame of every view.

        Args:
            sample: noisy latents.
            timestep: of the diffusion; one for the batch or one per sample.
            encoder_hidden_states: text tokens, the same for all views and frames.
            camera: camera-to-world of every view (Blender's axes), at distance 1
                (`backend.cameras.at_unit_distance`); None leaves the cameras out.
            motion: False leaves the motion modules out: frames do not see each other.
            image_embeddings: what Animate3D's image encoder makes of the first frame of every view; None
                leaves the image prompt out.
            deep: DeepCache's features: reused if there are some, else filled.

        Raises:
            ValueError: more frames than the motion modules know positions for.
        """
        batch, views, frames = sample.shape[:3]
        if motion and self.config.motion and frames > self.config.motion_max_frames:
            raise ValueError(f"{frames} frames; the motion modules know {self.config.motion_max_frames}")
        joint = self.config.resnet_norm_frames == "joint"
        looks_back = motion and self.config.mv_attention == "animate3d"
        layout = _Layout(views, frames, motion, frames if joint else 1, looks_back)

        timestep = per_sample(timestep, sample)
        embedding = self.time_embedding(self.time_proj(timestep).to(sample.dtype))  # [B, E]
        embedding = embedding.unsqueeze(1).expand(-1, views, -1)
        if camera is not None and self.camera_embedding is not None:
            embedding = embedding + self.camera_embedding(camera.flatten(2).to(sample.dtype))
        embedding = embedding.flatten(0, 1).repeat_interleave(frames, dim=0)  # [B * V * F, E]
        context: Any = encoder_hidden_states.repeat_interleave(views * frames, dim=0)
        if self.image_projection is not None:
            prompts = (
                [] if image_embeddings is None else [self.image_projection(image_embeddings.flatten(0, 1))]
            )
            context = context, [tokens.repeat_interleave(frames, dim=0) for tokens in prompts]

        hidden = self.conv_in(sample.flatten(0, 2))
        hidden = through_levels(
            self, hidden, lambda block, i, x: self._layer(block, i, x, embedding, context, layout), deep
        )
        hidden = _group_norm(self.conv_norm_out, hidden, layout.norm_frames)
        return self.conv_out(nn.functional.silu(hidden)).unflatten(0, (batch, views, frames))

    def alignment(self) -> dict[str, nn.Parameter]:
        """The alignment layers' parameters by name: what Vivid-ZOO trains, and its checkpoint holds."""
        return {name: p for name, p in self.named_parameters() if ".align_" in name}

    def _layer(self, block: _Block, i: int, *inputs: Any) -> Tensor:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(block.layer, i, *inputs)
        return block.layer(i, *inputs)


@dataclass(frozen=True)
class _Layout:
    """How the images of a batch, [B * V * F, ...], belong together, and who may see whom."""

    views: int
    frames: int
    motion: bool
    norm_frames: int  # how many frames a ResNet's norms take as one image
    looks_back: bool  # whether every frame sees the first


class _Block(nn.Module):
    """One level of the U-Net: residual layers, the first of them with attention and motion."""

    def __init__(
        self,
        resnets: list[ResnetBlock2D],
        attentions: list[Transformer2DModel],
        motion_modules: list[MotionModule],
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(attentions)
        self.motion_modules = nn.ModuleList(motion_modules)
        self.downsamplers: Any = ()
        self.upsamplers: Any = ()

    def layer(
        self,
        i: int,
        hidden: Tensor,  # [B * V * F, C, h, w]
        embedding: Tensor,  # [B * V * F, E]
        context: Any,  # [B * V * F, L, D]; with an image prompt, a pair of it and a list of such
        layout: _Layout,
    ) -> Tensor:
        """Layer `i`: residual, attention over the views of a frame, motion over the frames of a view."""
        hidden = _resnet(self.resnets[i], hidden, embedding, layout.norm_frames)
        if i < len(self.attentions):
            hidden = _attend(self.attentions[i], hidden, context, layout)
        if layout.motion and i < len(self.motion_modules):
            hidden = self.motion_modules[i](hidden, layout.frames, layout.views)
        return hidden


def _resnet(net: Any, hidden: Tensor, embedding: Tensor, norm_frames: int) -> Tensor:
    """diffusers' `ResnetBlock2D`, whose norms may take several frames as one image."""
    y = net.conv1(net.nonlinearity(_group_norm(net.norm1, hidden, norm_frames)))
    y = y + net.time_emb_proj(net.nonlinearity(embedding))[:, :, None, None]
    y = net.conv2(net.nonlinearity(_group_norm(net.norm2, y, norm_frames)))
    return y + (hidden if net.conv_shortcut is None else net.conv_shortcut(hidden))


def _attend(net: Any, hidden: Tensor, context: Any, layout: _Layout) -> Tensor:
    """diffusers' `Transformer2DModel`, whose self-attention sees all views of a frame at once."""
    batch_views_frames, _, height, width = hidden.shape
    looks_back = {"frames": layout.frames} if layout.looks_back else {}
    y = net.norm(hidden)
    if net.use_linear_projection:
        y = net.proj_in(y.flatten(2).transpose(1, 2))
    else:
        y = net.proj_in(y).flatten(2).transpose(1, 2)
    for block in net.transformer_blocks:  # y: [B * V * F, h * w, C]
        tokens = _views_together(block.norm1(y), layout)
        y = y + _views_apart(block.attn1(tokens, **looks_back), layout)
        y = y + block.attn2(block.norm2(y), encoder_hidden_states=context)
        y = y + block.ff(block.norm3(y))
    size = (batch_views_frames, -1, height, width)
    if net.use_linear_projection:
        y = net.proj_out(y).transpose(1, 2).reshape(size)
    else:
        y = net.proj_out(y.transpose(1, 2).reshape(size))
    return y + hidden


def _views_together(tokens: Tensor, layout: _Layout) -> Tensor:  # [B * V * F, L, C] -> [B * F, V * L, C]
    return tokens.unflatten(0, (-1, layout.views, layout.frames)).transpose(1, 2).flatten(2, 3).flatten(0, 1)


def _views_apart(tokens: Tensor, layout: _Layout) -> Tensor:  # [B * F, V * L, C] -> [B * V * F, L, C]
    tokens = tokens.unflatten(1, (layout.views, -1)).unflatten(0, (-1, layout.frames))
    return tokens.transpose(1, 2).flatten(0, 2)


class MotionModule(nn.Module):
    """AnimateDiff's motion module: every pixel attends to itself in the other frames of its view.

    With `align`, Vivid-ZOO's layers act beside its projections (equations 1 and 5 of the paper).
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        layers: int,
        max_frames: int,
        norm_groups: int,
        norm_frames: NormFrames,
        align: bool,
    ) -> None:
        super().__init__()
        self.joint_norm = norm_frames == "joint"
        self.norm = nn.GroupNorm(norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(
                channels,
                heads,
                channels // heads,
                double_self_attention=True,
                positional_embeddings="sinusoidal",
                num_positional_embeddings=max_frames,
            )
            for _ in range(layers)
        )
        self.proj_out = nn.Linear(channels, channels)
        # A motion module starts as nothing, and so do the layers that adapt it.
        self.align_in = nn.Linear(channels, channels) if align else None
        self.align_out = nn.Linear(channels, channels) if align else None
        for layer in (self.proj_out, self.align_in, self.align_out):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        for block in self.transformer_blocks:
            # Computed, not learnt: no part of a checkpoint.
            positions: Any = block.pos_embed
            positions.register_buffer("pe", positions.pe, persistent=False)

    def forward(self, hidden: Tensor, frames: int, views: int = 1) -> Tensor:  # [B * V * F, C, h, w]
        size = hidden.shape
        y = _group_norm(self.norm, hidden, frames if self.joint_norm else 1)
        y = y.unflatten(0, (-1, frames)).permute(0, 3, 4, 1, 2).flatten(0, 2)  # [B * V * h * w, F, C]
        y = self.proj_in(y) if self.align_in is None else self.proj_in(y) + self.align_in(y)
        for block in self.transformer_blocks:
            layout = {"views": views, "size": size[2:]} if block.pos_embed is None else None
            y = block(y, cross_attention_kwargs=layout)
        y = self.proj_out(y) if self.align_out is None else self.proj_out(y) + self.align_out(y)
        y = y.unflatten(0, (-1, *size[2:])).permute(0, 3, 4, 1, 2)  # [B * V, F, C, h, w]
        return hidden + y.reshape(size)


def _group_norm(norm: nn.GroupNorm, images: Tensor, frames: int) -> Tensor:  # [B * F, C, h, w]
    """Normalises groups of channels over each run of `frames` images."""
    if frames == 1:
        return norm(images)
    clips = images.unflatten(0, (-1, frames)).transpose(1, 2)  # [B, C, F, h, w]
    return norm(clips).transpose(1, 2).reshape(images.shape)
