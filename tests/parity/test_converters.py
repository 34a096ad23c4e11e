"""Published weight files become ours completely, or are refused by name."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from backend.install import converters, published
from backend.models.checkpoints import load_strictly, read_checkpoint
from backend.models.lgm import LGM
from backend.shared.protocol import DioramaError

from .fixture import fill, load_fixture
from .test_parity import DATA
from .videomv import _vae

SMALL_LGM = {
    "input_size": 16,
    "down_channels": (32, 32),
    "down_attention": (False, True),
    "up_channels": (32,),
    "up_attention": (False,),
    "attention_heads": 4,
}


def small_lgm() -> LGM:
    return LGM(**SMALL_LGM)


@pytest.fixture
def lgm_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(published.NETWORKS, "lgm", published.Network(small_lgm, converters.lgm))


@pytest.mark.usefixtures("lgm_only")
@pytest.mark.parametrize("layout", ["own file", "inside videomv", "safetensors"])
def test_converted_network_is_read_back_with_the_published_weights(tmp_path: Path, layout: str) -> None:
    weights = {name: torch.randn_like(value) for name, value in small_lgm().state_dict().items()}
    source = tmp_path / "model.pth"
    if layout == "own file":
        torch.save(weights, source)
    elif layout == "inside videomv":
        inside = {f"module.lgm_big.{name}": value for name, value in weights.items()}
        torch.save(
            {"state_dict": inside | {"module.input_blocks.0.0.bias": torch.ones(3)}, "step": 7}, source
        )
    else:
        source = tmp_path / "model.safetensors"
        save_file(weights, source)

    published.convert("lgm", [source], tmp_path / "lgm")

    read = LGM.from_pretrained(tmp_path / "lgm").state_dict()
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["lgm", source.name])
    (tmp_path / "usual").mkdir()  # whoever may read the models folder may read what is in it
    assert (tmp_path / "lgm").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.usefixtures("lgm_only")
def test_videomv_checkpoint_without_reconstructor_is_refused_with_where_to_find_one(tmp_path: Path) -> None:
    torch.save({"input_blocks.0.0.bias": torch.ones(3)}, tmp_path / "laion.pth")
    with pytest.raises(DioramaError, match=r"E_WEIGHTS_MISSING.*laion.pth holds nothing of lgm.*other file"):
        published.convert("lgm", [tmp_path / "laion.pth"], tmp_path / "lgm")
    assert not (tmp_path / "lgm").exists()


def test_checkpoint_of_another_model_is_refused_with_its_keys() -> None:
    net = small_lgm()
    weights = net.state_dict()
    weights["extra.weight"] = torch.zeros(1)
    weights["conv.bias"] = torch.zeros(3)
    del weights["unet.conv_in.bias"]
    with pytest.raises(DioramaError, match="does not hold the weights of LGM") as refusal:
        load_strictly(net, weights, "model.pth")
    assert "1 missing: unet.conv_in.bias" in refusal.value.message
    assert "1 left over: extra.weight" in refusal.value.message
    assert "1 of another shape: conv.bias [3] instead of [14]" in refusal.value.message


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self.target),)

    def __init__(self, target: Path) -> None:
        self.target = str(target)


def test_pickled_code_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    for name, write in {
        "zip.pth": torch.save,
        "plain.ckpt": lambda x, p: p.write_bytes(pickle.dumps(x, protocol=2)),
    }.items():
        write({"state_dict": {}, "hook": _Payload(trace)}, tmp_path / name)
        with pytest.raises(DioramaError, match="E_WEIGHTS_CORRUPT"):
            read_checkpoint(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save(small_lgm().state_dict(), path)
    else:
        save_file(small_lgm().state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DioramaError, match="damaged, incomplete"):
        read_checkpoint(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DioramaError, match=r"E_WEIGHTS_MISSING.*nowhere\.pth"):
        read_checkpoint(tmp_path / "nowhere.pth")


def test_ldm_autoencoder_converts_completely() -> None:
    fixture = load_fixture(DATA / "videomv_3d_aware_step_t2v.safetensors")
    prefixed = {f"first_stage_model.{name}": tensor for name, tensor in fixture.weights["vae"].items()}
    load_strictly(_vae(fixture.config["vae"]), converters.ldm_vae(prefixed), "vae")


# OpenCLIP's transformer, written down from its paper-standard structure to check our key maps against.
HEADS, WIDTH, LAYERS = 2, 16, 3


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(WIDTH, 64), "c_proj": nn.Linear(64, WIDTH)})

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp["c_proj"](nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


def _transformer() -> nn.ModuleDict:
    return nn.ModuleDict({"resblocks": nn.ModuleList(_Block() for _ in range(LAYERS))})


def _randomised(net: nn.Module) -> nn.Module:
    net.load_state_dict(fill({name: p.shape for name, p in net.state_dict().items()}, salt="clip"))
    return net.eval()


class _Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(50, WIDTH)
        self.positional_embedding = nn.Parameter(torch.zeros(7, WIDTH))
        self.transformer = _transformer()
        self.ln_final = nn.LayerNorm(WIDTH)
        self.text_projection = nn.Parameter(torch.zeros(WIDTH, 8))
        self.logit_scale = nn.Parameter(torch.zeros(1))

    def forward(self, tokens: Tensor) -> Tensor:
        """As VideoMV and Stable Diffusion 2 use it: the last layer but one, then the final norm."""
        x = self.token_embedding(tokens) + self.positional_embedding
        causal = torch.full((7, 7), -math.inf).triu(1)
        for block in self.transformer["resblocks"][:-1]:
            x = block(x, causal)
        return self.ln_final(x)


class _Image(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(WIDTH))
        self.conv1 = nn.Conv2d(3, WIDTH, 4, stride=4, bias=False)
        self.positional_embedding = nn.Parameter(torch.zeros(5, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = _transformer()
        self.proj = nn.Parameter(torch.zeros(WIDTH, 8))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(images), 1, -1)
        x = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        for block in self.transformer["resblocks"]:
            x = block(x, None)
        return self.ln_post(x[:, 0]) @ self.proj


CLIP = {"hidden_size": WIDTH, "intermediate_size": 64, "num_attention_heads": HEADS, "hidden_act": "gelu"}


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "cond_stage_model.model."])
def test_open_clip_text_encoder_gives_the_same_tokens(prefix: str) -> None:
    theirs = _randomised(_Text())
    config = CLIPTextConfig(
        vocab_size=50, max_position_embeddings=7, num_hidden_layers=LAYERS - 1, eos_token_id=2, **CLIP
    )
    ours = CLIPTextModel(config).eval()
    weights = {prefix + name: tensor for name, tensor in theirs.state_dict().items()}
    load_strictly(ours, converters.open_clip_text(weights), "open_clip")
    tokens = torch.tensor([[48, 3, 4, 49, 0, 0, 0]])
    assert (ours(tokens).last_hidden_state - theirs(tokens)).abs().max() < 1e-5


@torch.no_grad()
def test_open_clip_image_encoder_gives_the_same_embedding() -> None:
    theirs = _randomised(_Image())
    config = CLIPVisionConfig(image_size=8, patch_size=4, num_hidden_layers=LAYERS, projection_dim=8, **CLIP)
    ours = CLIPVisionModelWithProjection(config).eval()
    weights = {f"visual.{name}": tensor for name, tensor in theirs.state_dict().items()}
    load_strictly(ours, converters.open_clip_image(weights | {"logit_scale": torch.zeros(1)}), "open_clip")
    images = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    assert (ours(images).image_embeds - theirs(images)).abs().max() < 1e-5


def test_stable_diffusion_text_encoder_converts_completely() -> None:
    ours = CLIPTextModel(CLIPTextConfig(vocab_size=50, num_hidden_layers=2, **CLIP))
    prefix = "cond_stage_model.transformer.text_model."
    weights = {prefix + name: tensor for name, tensor in ours.state_dict().items()}
    weights[f"{prefix}embeddings.position_ids"] = torch.arange(77)[None]
    load_strictly(ours, converters.ldm_clip_text(weights), "sd")
