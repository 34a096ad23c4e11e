"""VideoMV's network at the starter's sizes: trains, checkpoints, saves, and works on a single image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from backend import cameras
from backend.models.videomv_unet import VideoMVImageUNet, VideoMVUNet

from .fixture import fill

SIZES = {
    "block_out_channels": (64, 128),
    "down_block_types": ("CrossAttnDownBlock3D", "CrossAttnDownBlock3D"),
    "up_block_types": ("CrossAttnUpBlock3D", "CrossAttnUpBlock3D"),
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 32,
    "transformer_in_heads": 2,
}


def network(**more: bool) -> VideoMVUNet:
    net = VideoMVUNet(**SIZES, **more).eval()
    net.load_state_dict(fill({name: p.shape for name, p in net.state_dict().items()}, salt="starter"))
    return net


def inputs(frames: int = 3, size: int = 8) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    sample = torch.randn(2, 4, frames, size, size, generator=generator)
    context = torch.randn(2, 5, 24, generator=generator)
    return sample, torch.tensor([900, 13]), context, cameras.orbit(frames, 15.0, 2.0).expand(2, -1, -1, -1)


def test_new_network_does_not_yet_know_cameras() -> None:
    net = VideoMVUNet(**SIZES).eval()
    sample, t, context, camera = inputs()
    with torch.no_grad():
        assert torch.equal(net(sample, t, context, camera), net(sample, t, context))


@pytest.mark.parametrize("joint", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(joint: bool) -> None:
    gradients = []
    for checkpointing in (False, True):
        net = network(joint_attention=joint)
        if checkpointing:
            net.enable_gradient_checkpointing()
        net(*inputs()).square().mean().backward()
        gradients.append({name: p.grad for name, p in net.named_parameters()})
    assert all(grad is not None for grad in gradients[0].values())
    assert all((gradients[0][name] - gradients[1][name]).abs().max() < 1e-6 for name in gradients[0])


def test_without_mixing_views_each_view_is_denoised_alone() -> None:
    net = network()
    sample, t, context, camera = inputs()
    with torch.no_grad():
        together = net(sample, t, context, camera, mix_views=False)
        for view in range(3):
            one = slice(view, view + 1)
            alone = net(sample[:, :, one], t, context, camera[:, one], mix_views=False)
            assert (together[:, :, one] - alone).abs().max() < 1e-5
        assert (together - net(sample, t, context, camera)).abs().max() > 0.01


def test_joint_attention_sees_other_views_and_learns_nothing_from_equal_ones() -> None:
    plain, joint = network(), network(joint_attention=True)
    for name, weight in [*plain.named_parameters(), *joint.named_parameters()]:
        if "temp_" in name or "transformer_in" in name:  # the other layers that mix views
            nn.init.zeros_(weight)
    sample, t, context, camera = inputs()
    equal = sample[:, :, :1].expand_as(sample), t, context, camera[:, :1].expand_as(camera)
    with torch.no_grad():
        assert (plain(*equal) - joint(*equal)).abs().max() < 1e-5
        assert (plain(*inputs()) - joint(*inputs())).abs().max() > 0.01
        alone = [net(*inputs(), mix_views=False) for net in (plain, joint)]
    assert torch.equal(*alone)


@pytest.mark.parametrize("size", [9, 12])
def test_sizes_that_do_not_halve_evenly_come_back(size: int) -> None:
    sample, t, context, camera = inputs(size=size)
    with torch.no_grad():
        assert network()(sample, t, context, camera).shape == sample.shape


def test_saved_network_is_read_back_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net = network()
    net.save_pretrained(tmp_path)
    read = VideoMVUNet.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(net(*inputs()), read(*inputs()))
    assert "not expected" not in caplog.text


def test_image_network_sees_the_image(tmp_path: Path) -> None:
    net = VideoMVImageUNet(**SIZES, image_embedding_dim=16).eval()
    net.load_state_dict(fill({name: p.shape for name, p in net.state_dict().items()}, salt="starter"))
    net.save_pretrained(tmp_path)
    net = VideoMVImageUNet.from_pretrained(tmp_path).eval()
    image = {"image_latents": torch.ones(2, 4, 8, 8), "image_embeddings": torch.ones(2, 1, 16)}
    with torch.no_grad():
        out = net(*inputs(), **image)
        for name, tensor in image.items():
            other = net(*inputs(), **{**image, name: torch.zeros_like(tensor)})
            assert (out - other).abs().max() > 0.001, name
