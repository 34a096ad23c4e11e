"""One network is MVDream without motion, AnimateDiff with one view, and Vivid-ZOO with both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.unets.unet_motion_model import MotionAdapter
from torch import Tensor

from backend import cameras
from backend.install import converters
from backend.models.checkpoints import load_strictly, read_checkpoint
from backend.models.multiview_motion_unet import MotionModule, MultiViewMotionUNet, _group_norm

from .fixture import fill, load_fixture
from .test_parity import DATA

VIEWS, FRAMES = 3, 4
SIZES = {
    "block_out_channels": (64, 128),
    "attention": (True, False),
    "layers_per_block": 1,
    "num_attention_heads": (4, 4),
    "cross_attention_dim": 24,
}


def network(**config: object) -> MultiViewMotionUNet:
    """A small network in which every weight counts."""
    net = MultiViewMotionUNet(**SIZES, **config).eval()
    net.load_state_dict(fill({name: p.shape for name, p in net.state_dict().items()}, salt="vivid"))
    return net


def inputs(views: int = VIEWS, frames: int = FRAMES) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    sample = torch.randn(2, views, frames, 4, 8, 8, generator=generator)
    context = torch.randn(2, 5, 24, generator=generator)
    camera = cameras.orbit(views, 15.0, 1.0).expand(2, -1, -1, -1)
    return sample, torch.tensor([900, 13]), context, camera


def difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@torch.no_grad()
def test_without_motion_every_frame_is_mvdream() -> None:
    moving, still = network(), network(motion=False)
    sample, t, context, camera = inputs()
    out = moving(sample, t, context, camera, motion=False)
    for frame in range(FRAMES):
        alone = still(sample[:, :, frame : frame + 1], t, context, camera)
        assert difference(out[:, :, frame : frame + 1], alone) < 1e-5
    assert difference(out, moving(sample, t, context, camera)) > 0.01  # the motion modules do something


@torch.no_grad()
def test_views_without_cameras_and_with_one_view_each_are_separate_videos() -> None:
    net, animatediff = network(align=False), network(align=False, camera_dim=None)
    sample, t, context, _ = inputs()
    for view in range(VIEWS):
        one = sample[:, view : view + 1]
        assert difference(net(one, t, context), animatediff(one, t, context)) < 1e-6
    together = net(sample, t, context)
    assert difference(together[:, :1], net(sample[:, :1], t, context)) > 0.01  # views do see each other


@torch.no_grad()
def test_zero_alignment_changes_nothing() -> None:
    aligned, plain = network(align=True), network(align=False)
    sample, t, context, camera = inputs()
    assert difference(aligned(sample, t, context, camera), plain(sample, t, context, camera)) > 0.01
    for parameter in aligned.alignment().values():
        parameter.zero_()
    assert difference(aligned(sample, t, context, camera), plain(sample, t, context, camera)) == 0.0


@torch.no_grad()
def test_permuting_views_permutes_the_output() -> None:
    net = network()
    sample, t, context, camera = inputs()
    order = [2, 0, 1]
    permuted = net(sample[:, order], t, context, camera[:, order])
    assert difference(permuted, net(sample, t, context, camera)[:, order]) < 1e-5


@torch.no_grad()
def test_order_of_frames_counts() -> None:
    net = network()
    sample, t, context, camera = inputs()
    order = [1, 0, 2, 3]
    permuted = net(sample[:, :, order], t, context, camera)
    assert difference(permuted, net(sample, t, context, camera)[:, :, order]) > 0.01


def test_gradients_reach_the_alignment_only_when_the_bases_are_frozen() -> None:
    net = network()
    net.requires_grad_(False)
    for parameter in net.alignment().values():
        parameter.requires_grad_(True)
    sample, t, context, camera = inputs()
    net(sample, t, context, camera).square().mean().backward()
    reached = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert reached == set(net.alignment())
    assert len(reached) == 4 * 7  # 4 tensors at each of 2 + 1 + 4 sites


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        net = network()
        if checkpointing:
            net.enable_gradient_checkpointing()
        sample, t, context, camera = inputs()
        net(sample, t, context, camera).square().mean().backward()
        gradients.append({name: p.grad for name, p in net.named_parameters()})
    assert all(difference(gradients[0][name], gradients[1][name]) < 1e-6 for name in gradients[0])


@torch.no_grad()
def test_joint_norm_is_the_motion_module_of_diffusers() -> None:
    ours = MotionModule(64, 4, 1, 32, 32, "joint", align=False).eval()
    weights = fill({name: p.shape for name, p in ours.state_dict().items()}, salt="joint")
    ours.load_state_dict(weights)
    theirs = TransformerTemporalModel(
        4, 16, 64, positional_embeddings="sinusoidal", num_positional_embeddings=32
    ).eval()
    theirs.load_state_dict(weights, strict=False)
    x = torch.randn(2 * FRAMES, 64, 5, 3, generator=torch.Generator().manual_seed(1))
    x *= torch.arange(1, 2 * FRAMES + 1).view(-1, 1, 1, 1)  # frames of unequal scale tell the norms apart
    expected = theirs(x, num_frames=FRAMES).sample
    assert difference(ours(x, FRAMES), expected) < 1e-4
    ours.joint_norm = False
    assert difference(ours(x, FRAMES), expected) > 0.1


def test_joint_group_norm_takes_the_frames_of_a_view_as_one_image() -> None:
    norm = torch.nn.GroupNorm(4, 8)
    clips = torch.randn(2, 8, FRAMES, 5, 5)  # [B, C, F, h, w]
    images = clips.transpose(1, 2).flatten(0, 1)
    expected = norm(clips).transpose(1, 2).flatten(0, 1)
    assert difference(_group_norm(norm, images, FRAMES), expected) < 1e-6
    assert difference(_group_norm(norm, images, 1), norm(images)) == 0.0


def test_more_frames_than_positions_are_refused() -> None:
    net = network(motion_max_frames=3)
    sample, t, context, camera = inputs(frames=4)
    with pytest.raises(ValueError, match="4 frames; the motion modules know 3"):
        net(sample, t, context, camera)
    assert net(sample, t, context, camera, motion=False).shape == sample.shape


def test_saved_network_is_read_back_the_same(tmp_path: Path) -> None:
    net = network()
    net.save_pretrained(tmp_path)
    read = MultiViewMotionUNet.from_pretrained(tmp_path).eval()
    sample, t, context, camera = inputs()
    with torch.no_grad():
        assert difference(net(sample, t, context, camera), read(sample, t, context, camera)) == 0.0


MVDREAM_LAYOUTS = {
    "original file": lambda ldm, ours: (
        {f"model.diffusion_model.{name}": tensor for name, tensor in ldm.items()}
        | {"first_stage_model.quant_conv.bias": torch.zeros(8), "betas": torch.zeros(1000)}
    ),
    "LDM's names": lambda ldm, ours: ldm,
    "diffusers, camera_embedding": lambda ldm, ours: ours,
    "diffusers, class_embedding": lambda ldm, ours: {
        name.replace("camera_embedding.", "class_embedding."): tensor for name, tensor in ours.items()
    },
    "diffusers, camera in its own file": lambda ldm, ours: {
        name.removeprefix("camera_embedding."): tensor for name, tensor in ours.items()
    },
}


@pytest.mark.parametrize("version", ["v15", "v21"])
@pytest.mark.parametrize("layout", MVDREAM_LAYOUTS)
def test_every_published_layout_of_mvdream_gives_the_same_network(version: str, layout: str) -> None:
    ldm = load_fixture(DATA / f"mvdream_{version}_unet.safetensors").weights["unet"]
    ours = converters.mvdream_unet(ldm)  # compared with the network's own names in the parity tests
    converted = converters.mvdream_unet(MVDREAM_LAYOUTS[layout](ldm, ours))
    assert converted.keys() == ours.keys()
    assert all(torch.equal(converted[name], ours[name]) for name in ours)


@pytest.mark.parametrize("mid_block", [True, False], ids=["v2", "v1 and v3"])
@pytest.mark.parametrize("layout", ["ckpt", "diffusers"])
def test_every_published_layout_of_animatediff_loads_completely(
    tmp_path: Path, layout: str, mid_block: bool
) -> None:
    net = network(motion_mid_block=mid_block, align=False)
    if layout == "diffusers":
        adapter = MotionAdapter(
            block_out_channels=SIZES["block_out_channels"],
            motion_layers_per_block=1,
            motion_num_attention_heads=8,
            motion_norm_num_groups=32,
            use_motion_mid_block=mid_block,
        )
        published = adapter.state_dict()
        assert any(name.endswith("pos_embed.pe") for name in published)
    else:
        back = {"norm1": "norms.0", "norm2": "norms.1", "norm3": "ff_norm"}
        back |= {"attn1": "attention_blocks.0", "attn2": "attention_blocks.1"}
        published = {}
        for name, tensor in net.state_dict().items():
            if "motion_modules." in name:
                root, _, inner = name.partition(".motion_modules.")
                number, _, inner = inner.partition(".")
                words = [back.get(word, word) for word in inner.split(".")]
                published[
                    ".".join(["module", root, "motion_modules", number, "temporal_transformer", *words])
                ] = tensor
        table = "module.up_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0."
        published[table + "attention_blocks.0.pos_encoder.pe"] = torch.zeros(1, 32, 64)
    torch.save({"state_dict": published}, tmp_path / "motion.ckpt")

    motion = converters.motion_modules(read_checkpoint(tmp_path / "motion.ckpt"))

    base = {name: tensor for name, tensor in net.state_dict().items() if "motion_modules." not in name}
    load_strictly(net, base | motion, "motion.ckpt")
