"""Our outputs for the fixtures of MVDream, AnimateDiff and Animate3D."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from backend.install import converters
from backend.models.checkpoints import load_strictly
from backend.models.multiview_motion_unet import MotionModule, MultiViewMotionUNet

from .fixture import Fixture

Outputs = dict[str, Tensor]


def mvdream(fixture: Fixture) -> Outputs:
    config = fixture.config
    views = config["views"]
    net = MultiViewMotionUNet(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        block_out_channels=[config["model_channels"] * factor for factor in config["channel_mult"]],
        attention=[2**i in config["attention_resolutions"] for i in range(len(config["channel_mult"]))],
        layers_per_block=config["num_res_blocks"],
        num_attention_heads=config["heads"],
        use_linear_projection=config["spatial_transformer_projection"] == "linear",
        cross_attention_dim=config["context_dim"],
        camera_dim=config["camera_dim"],
        motion=False,
    ).eval()
    net.load_state_dict(converters.mvdream_unet(fixture.weights["unet"]))

    def run(views: int, camera: Tensor | None = None) -> Tensor:
        # A sample's views share timestep and text in the fixture; as samples of one view all have their own.
        x = fixture["in.x"].unflatten(0, (-1, views)).unsqueeze(2)  # [B, V, 1, 4, h, w]
        t, context = fixture["in.timesteps"][::views], fixture["in.context"][::views]
        return net(x, t, context, camera).flatten(0, 2)

    return {
        "out": run(views, fixture["in.camera"].unflatten(0, (-1, views)).unflatten(-1, (4, 4))),
        "out_no_camera": run(views),
        "out_2d": run(1),
    }


def animatediff(fixture: Fixture) -> Outputs:
    config, motion = fixture.config, fixture.config["motion"]
    levels = range(len(config["block_out_channels"]))
    net = MultiViewMotionUNet(
        block_out_channels=config["block_out_channels"],
        attention=[f"down_blocks.{i}.attentions.0.norm.weight" in fixture.weights["unet"] for i in levels],
        layers_per_block=config["layers_per_block"],
        num_attention_heads=[config["heads"] for _ in levels],
        use_linear_projection=config["spatial_projection"] == "linear",
        cross_attention_dim=config["cross_attention_dim"],
        norm_num_groups=config["norm_groups"],
        camera_dim=None,
        motion_mid_block=motion["mid_block"],
        motion_heads=motion["heads"],
        motion_layers=motion["blocks"],
        motion_max_frames=motion["max_frames"],
        motion_norm_frames=motion["norm_frames"],
        align=False,
    ).eval()
    weights = fixture.weights["unet"]
    net.load_state_dict(converters.mvdream_unet(weights) | converters.motion_modules(weights))
    x = fixture["in.x"].transpose(1, 2).unsqueeze(1)  # [B, V = 1, F, 4, h, w]
    out = net(x, fixture["in.timesteps"], fixture["in.context"])
    return {"out": out.squeeze(1).transpose(1, 2)}


def animate3d(fixture: Fixture) -> Outputs:
    config = fixture.config
    net = MultiViewMotionUNet(
        block_out_channels=config["block_out_channels"],
        cross_attention_dim=config["cross_attention_dim"],
        motion_norm_frames="joint",
        align=False,
        mv_attention="animate3d",
        image_embedding_dim=config["image_embedding_dim"],
    ).eval()
    files = fixture.weights["mvdream"] | fixture.weights["animate3d"] | fixture.weights["ip_adapter"]
    load_strictly(net, converters.animate3d_unet(files), fixture.name)
    x = fixture["in.x"].transpose(2, 3)  # [B, V, F, 4, h, w]
    camera = fixture["in.camera"].unflatten(-1, (4, 4)).expand(len(x), -1, -1, -1)
    out = net(
        x, config["timestep"], fixture["in.context"], camera, image_embeddings=fixture["in.image_embeds"]
    )
    return {"out": out.transpose(2, 3)}


def motion_module(fixture: Fixture) -> Outputs:
    config: dict[str, Any] = fixture.config
    net = MotionModule(
        config["channels"],
        config["heads"],
        config["blocks"],
        config["max_frames"],
        config["norm_groups"],
        config["norm_frames"],
        align=False,
    ).eval()
    prefix = "motion_modules.0."
    published = {prefix + name: tensor for name, tensor in fixture.weights["motion_module"].items()}
    net.load_state_dict(converters.without_prefix(converters.motion_modules(published), prefix))
    x = fixture["in.x"].transpose(1, 2)  # [B, F, C, h, w]
    out = net(x.flatten(0, 1), x.shape[1]).unflatten(0, x.shape[:2])
    return {"out": out.transpose(1, 2)}
