"""Animate3D's layers: nothing where they are nothing, and otherwise what a plain reading of its code says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.models.detr.modeling_detr import DetrSinePositionEmbedding

from backend import cameras
from backend.install import converters
from backend.models import animate3d
from backend.models.checkpoints import load_strictly, read_checkpoint
from backend.models.multiview_motion_unet import MultiViewMotionUNet
from backend.shared.protocol import DioramaError

from . import animate3d_keys
from .fixture import fill, load_fixture
from .test_multiview_motion import FRAMES, VIEWS, difference, inputs, network
from .test_parity import DATA

DIM = 6  # of the image encoder
HEADS, WIDTH = 2, 8


def animate(**config: object) -> MultiViewMotionUNet:
    """A small network in which every weight counts."""
    more = {"mv_attention": "animate3d", "image_embedding_dim": DIM, "motion_norm_frames": "joint"}
    return network(**more, align=False, **config)


def seen() -> Tensor:  # [2, V, DIM]
    return torch.randn(2, VIEWS, DIM, generator=torch.Generator().manual_seed(8))


@torch.no_grad()
def silence(net: MultiViewMotionUNet, *parts: str) -> MultiViewMotionUNet:
    """The same network, of which some layers say nothing."""
    for name, parameter in net.named_parameters():
        if "mix_factor" in parts and name.endswith("mix_factor"):
            parameter.fill_(-torch.inf)  # all of the time, nothing of the frame
        elif any(part in name for part in parts):
            parameter.zero_()
    return net


EXTRAS = "mix_factor", "to_out_i2v", "to_v_ip"


@torch.no_grad()
def test_silent_extras_are_the_plain_network_and_each_of_them_counts() -> None:
    plain = network(align=False, motion_norm_frames="joint")
    expected = plain(*inputs())
    assert difference(silence(animate(), *EXTRAS)(*inputs(), image_embeddings=seen()), expected) < 1e-5
    for kept in EXTRAS:
        others = [part for part in EXTRAS if part != kept]
        out = silence(animate(), *others)(*inputs(), image_embeddings=seen())
        assert difference(out, expected) > 0.01, kept


@torch.no_grad()
def test_without_motion_and_image_it_is_mvdream() -> None:
    sample, t, context, camera = inputs(frames=1)
    still = network(motion=False)(sample, t, context, camera)
    assert difference(animate()(sample, t, context, camera, motion=False), still) < 1e-5


@torch.no_grad()
def test_every_frame_sees_the_first_and_no_other_one() -> None:
    net = animate()
    for blocks in (net.down_blocks, [net.mid_block], net.up_blocks):
        for level in blocks:
            level.motion_modules = nn.ModuleList()  # through which frames see each other too
    sample, t, context, camera = inputs()
    before = net(sample, t, context, camera)
    changed = {}
    for frame in (0, 2):
        other = sample.clone()
        other[:, :, frame] += 1
        after = net(other, t, context, camera)
        changed[frame] = {f for f in range(FRAMES) if difference(after[:, :, f], before[:, :, f]) > 1e-3}
    assert changed == {0: set(range(FRAMES)), 2: {2}}


@torch.no_grad()
def test_each_view_is_told_its_own_image() -> None:
    net = animate()
    told, other = seen(), seen()
    other[:, 1] += 1
    order = [1, 0, 2]
    sample, t, context, camera = inputs()
    one = net(sample, t, context, camera, image_embeddings=told)
    assert difference(one, net(sample, t, context, camera, image_embeddings=other)) > 0.01
    permuted = net(sample[:, order], t, context, camera[:, order], image_embeddings=told[:, order])
    assert difference(permuted, one[:, order]) < 1e-5


def by_hand(query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # [L, C], [M, C], [M, C] -> [L, C]
    """Attention of several heads, one at a time."""
    parts = []
    for q, k, v in zip(query.chunk(HEADS, 1), key.chunk(HEADS, 1), value.chunk(HEADS, 1), strict=True):
        parts.append(torch.softmax(q @ k.T / (WIDTH // HEADS) ** 0.5, dim=1) @ v)
    return torch.cat(parts, dim=1)


def with_processor(processor: nn.Module) -> Attention:
    attn = Attention(WIDTH, heads=HEADS, dim_head=WIDTH // HEADS)
    attn.set_processor(processor)
    attn.load_state_dict(fill({name: p.shape for name, p in attn.state_dict().items()}, salt="one"))
    return attn.eval()


@torch.no_grad()
def test_attention_to_the_first_frame_is_what_its_formula_says() -> None:
    attn = with_processor(animate3d.FirstFrameProcessor(WIDTH))
    extra = attn.processor
    x = torch.randn(2, FRAMES, 5, WIDTH, generator=torch.Generator().manual_seed(3))  # [B, F, L, C]
    expected = torch.empty_like(x)
    for b in range(2):
        first = x[b, 0]
        for f in range(FRAMES):
            tokens = x[b, f]
            own = by_hand(attn.to_q(tokens), attn.to_k(tokens), attn.to_v(tokens))
            back = by_hand(extra.to_q_i2v(tokens), attn.to_k(first), attn.to_v(first))
            expected[b, f] = attn.to_out[0](own + extra.to_out_i2v(back))
    out = attn(x.flatten(0, 1), frames=FRAMES).unflatten(0, (2, FRAMES))
    assert difference(out, expected) < 1e-5
    alone = attn(x.flatten(0, 1)).unflatten(0, (2, FRAMES))
    assert difference(alone, out) > 0.01


@torch.no_grad()
def test_attention_in_space_and_time_is_what_its_formula_says() -> None:
    views, height, width = 2, 3, 2
    attn = with_processor(animate3d.SpaceTimeProcessor(WIDTH, max_frames=8))
    extra = attn.processor
    pixels = views * height * width
    x = torch.randn(2, pixels, FRAMES, WIDTH, generator=torch.Generator().manual_seed(4))
    places = DetrSinePositionEmbedding(WIDTH // 2, normalize=True)(
        (1, 1, height, width), "cpu", torch.float32
    )
    places = places[0].flatten(1).T.repeat(views, 1)  # [V * h * w, C]
    rates = 10000 ** (-torch.arange(0, WIDTH, 2) / WIDTH)
    angles = torch.arange(FRAMES)[:, None] * rates
    times = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)  # [F, C]

    in_time, in_frame = torch.empty_like(x), torch.empty_like(x)
    for b in range(2):
        for pixel in range(pixels):
            tokens = x[b, pixel] + times
            own = by_hand(attn.to_q(tokens), attn.to_k(tokens), attn.to_v(tokens))
            in_time[b, pixel] = attn.to_out[0](own)
        for f in range(FRAMES):
            tokens = x[b, :, f] + places
            all_views = by_hand(extra.to_q_sp(tokens), extra.to_k_sp(tokens), extra.to_v_sp(tokens))
            in_frame[b, :, f] = extra.to_out_sp(all_views)
    mix = torch.sigmoid(extra.alpha_blender.mix_factor)
    expected = mix * in_frame + (1 - mix) * in_time
    assert difference(in_frame, in_time) > 0.1

    told = {"views": views, "size": (height, width)}
    assert difference(attn(x.flatten(0, 1), **told).unflatten(0, (2, pixels)), expected) < 1e-5


@pytest.mark.parametrize(("height", "width", "channels"), [(4, 4, 8), (3, 5, 12), (32, 32, 320)])
def test_sine_positions_are_those_of_detr(height: int, width: int, channels: int) -> None:
    theirs = DetrSinePositionEmbedding(channels // 2, normalize=True)(
        (1, 1, height, width), "cpu", torch.float32
    )
    assert difference(animate3d.sine_positions(height, width, channels), theirs[0].flatten(1).T) < 1e-5


@torch.no_grad()
def test_untrained_first_frame_layers_change_nothing() -> None:
    """As the authors begin their training: the layers that look back start at zero."""
    attn = Attention(WIDTH, heads=HEADS, dim_head=WIDTH // HEADS)
    x = torch.randn(FRAMES, 5, WIDTH)
    plain = attn(x)
    attn.set_processor(animate3d.FirstFrameProcessor(WIDTH))
    assert difference(attn(x, frames=FRAMES), plain) < 1e-6


def test_saved_network_is_read_back_the_same(tmp_path: Path) -> None:
    net = animate()
    net.save_pretrained(tmp_path)
    read = MultiViewMotionUNet.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        out = net(*inputs(), image_embeddings=seen())
        assert difference(out, read(*inputs(), image_embeddings=seen())) == 0.0


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        net = animate()
        if checkpointing:
            net.enable_gradient_checkpointing()
        net(*inputs(), image_embeddings=seen()).square().mean().backward()
        gradients.append({name: p.grad for name, p in net.named_parameters()})
    assert all(p is not None and p.abs().max() > 0 for p in gradients[0].values())
    assert all(difference(gradients[0][name], gradients[1][name]) < 1e-6 for name in gradients[0])


MVDREAM = load_fixture(DATA / "mvdream_v15_unet.safetensors")
LEVELS = tuple(MVDREAM.config["model_channels"] * factor for factor in MVDREAM.config["channel_mult"])
CONTEXT = MVDREAM.config["context_dim"]


@pytest.fixture(scope="module")
def files() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Animate3D's and IP-Adapter's files for a network as small as MVDream's fixture."""
    shapes = animate3d_keys.animate3d(LEVELS), animate3d_keys.ip_adapter(LEVELS, CONTEXT, DIM)
    return fill(shapes[0], salt="animate3d"), fill(shapes[1], salt="ip")


def empty() -> MultiViewMotionUNet:
    with torch.device("meta"):
        return MultiViewMotionUNet(
            block_out_channels=LEVELS,
            cross_attention_dim=CONTEXT,
            motion_norm_frames="joint",
            align=False,
            mv_attention="animate3d",
            image_embedding_dim=DIM,
        )


@pytest.mark.parametrize("layout", ["original file", "diffusers"])
def test_published_files_are_the_whole_network(tmp_path: Path, files, layout: str) -> None:
    motion, prompt = files
    base = MVDREAM.weights["unet"]
    if layout == "original file":
        base = {f"model.diffusion_model.{name}": tensor for name, tensor in base.items()}
    else:
        base = converters.mvdream_unet(base)
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in motion.items()}}, tmp_path / "a.ckpt"
    )
    save_file(prompt, tmp_path / "ip.safetensors")
    read = read_checkpoint(tmp_path / "a.ckpt") | read_checkpoint(tmp_path / "ip.safetensors")

    net = empty()
    load_strictly(net, converters.animate3d_unet(base | read), "files")

    ours = net.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in motion.items() if not name.endswith(".pe"))
    assert torch.equal(ours["image_projection.image_embeds.weight"], prompt["image_proj.proj.weight"])
    left = {
        name for name in ours if name not in motion and "_ip." not in name and "image_projection" not in name
    }
    assert left == converters.mvdream_unet(MVDREAM.weights["unet"]).keys()


def test_image_prompt_arrives_where_diffusers_puts_it(files) -> None:
    _, prompt = files
    theirs = UNet2DConditionModel(
        block_out_channels=LEVELS, cross_attention_dim=CONTEXT, attention_head_dim=8, norm_num_groups=32
    )
    nested = {
        part: {
            name.removeprefix(f"{part}."): tensor for name, tensor in prompt.items() if name.startswith(part)
        }
        for part in ("image_proj", "ip_adapter")
    }
    theirs._load_ip_adapter_weights([nested], low_cpu_mem_usage=False)
    ours = converters.animate3d_unet(MVDREAM.weights["unet"] | prompt)
    expected = {name: tensor for name, tensor in theirs.state_dict().items() if "_ip." in name}
    assert len(expected) == 2 * 16
    assert all(torch.equal(ours[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("lost", "added", "message"),
    [
        (
            "mid_block.motion_modules.0.transformer_blocks.0.attn1.processor.to_q_sp.weight",
            None,
            "1 missing: mid_b",
        ),
        ("ip_adapter.31.to_k_ip.weight", None, r"1 missing: mid_block.*attn2\.processor\.to_k_ip\.0"),
        (None, "ip_adapter.33.to_k_ip.weight", "1 left over: ip_adapter.33"),
        (
            None,
            "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_k_i2v.weight",
            "1 left over: down",
        ),
    ],
)
def test_files_of_another_version_are_refused_with_their_keys(files, lost, added, message: str) -> None:
    motion, prompt = files
    both = converters.mvdream_unet(MVDREAM.weights["unet"]) | motion | prompt
    if lost:
        del both[lost]
    else:
        both[added] = torch.zeros(1)
    with pytest.raises(DioramaError, match=message):
        load_strictly(empty(), converters.animate3d_unet(both), "files")


def test_expected_names_are_those_that_the_authors_code_gives() -> None:
    """At the fixture's size, which has run; for the published size, see `test_published_keys`."""
    fixture = load_fixture(DATA / "animate3d_unet.safetensors")
    config = fixture.config
    widths, context, dim = (
        config[name] for name in ("block_out_channels", "cross_attention_dim", "image_embedding_dim")
    )
    expected = animate3d_keys.animate3d(widths), animate3d_keys.ip_adapter(widths, context, dim)
    for part, names in zip(("animate3d", "ip_adapter"), expected, strict=True):
        theirs = {name: tuple(tensor.shape) for name, tensor in fixture.weights[part].items()}
        assert {name: shape for name, shape in names.items() if not name.endswith(".pe")} == theirs


def test_cameras_are_ours_at_an_elevation_of_15_degrees() -> None:
    fixture = load_fixture(DATA / "animate3d_unet.safetensors")
    assert difference(fixture["in.camera"], cameras.orbit(4, 15.0, 1.0).flatten(1)) < 1e-6
