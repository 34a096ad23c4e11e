"""Published weight files of small models with the names of the real ones, and networks of the same sizes."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    DINOv3ViTConfig,
    DINOv3ViTModel,
)

from backend.install import converters, image_model_converters, published
from backend.install.published import Network
from backend.models.birefnet import BiRefNet
from backend.models.flux2_encoder import Flux2Encoder
from backend.models.lgm import LGM
from backend.models.multiview_motion_unet import MultiViewMotionUNet
from backend.models.triposplat_decoder import TripoSplatDecoder
from backend.models.triposplat_flow import TripoSplatFlow
from backend.models.videomv_unet import VideoMVImageUNet, VideoMVUNet
from tests.parity import animate3d_keys
from tests.parity.videomv import _unet_sizes, _vae

PARITY = Path(__file__).parents[1] / "data" / "parity"
WIDTH, WORDS, PROMPT = 64, 50, 7  # the width is that of the text which MVDream's fixture is told
CLIP = {"hidden_size": WIDTH, "intermediate_size": 64, "num_attention_heads": 2, "hidden_act": "gelu"}


def _metadata(fixture: str) -> dict[str, object]:
    with safe_open(str(PARITY / f"{fixture}.safetensors"), "pt") as file:
        return {name: json.loads(value) for name, value in file.metadata().items()}


T2V, I2V = _metadata("videomv_3d_aware_step_t2v"), _metadata("videomv_3d_aware_step_i2v")
MVDREAM = {1: _metadata("mvdream_v15_unet"), 2: _metadata("mvdream_v21_unet")}
ANIMATEDIFF = _metadata("animatediff_v2_unet")


def weights(names: Mapping[str, object], prefix: str = "") -> dict[str, Tensor]:
    """Half-precision tensors of these shapes, others for each name: of a size with which networks can run."""
    return {prefix + name: _tensor(name, tuple(shape)) for name, shape in names.items()}


def _tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    values = torch.randn(shape, generator=generator) / max(1, torch.Size(shape[1:]).numel()) ** 0.5
    if len(shape) < 2:
        values = values / 10 + name.endswith("weight")
    return values.half()


def _lgm() -> LGM:
    sizes = T2V["config"]["lgm"]
    names = ("down_channels", "down_attention", "mid_attention", "up_channels", "up_attention")
    return LGM(**{name: sizes[name] for name in names})


def _mvdream(version: int, **more: object) -> MultiViewMotionUNet:
    config = MVDREAM[version]["config"]
    return MultiViewMotionUNet(
        block_out_channels=[config["model_channels"] * factor for factor in config["channel_mult"]],
        num_attention_heads=config["heads"],
        use_linear_projection=version == 2,
        cross_attention_dim=config["context_dim"],
        **more,
    )


def _clip_text(width: int = WIDTH) -> CLIPTextModel:
    sizes = {"vocab_size": WORDS, "max_position_embeddings": PROMPT, "num_hidden_layers": 2}
    return CLIPTextModel(CLIPTextConfig(**sizes, **CLIP | {"hidden_size": width}))


def _clip_text_1() -> CLIPTextModel:
    return _clip_text(MVDREAM[1]["config"]["context_dim"])


def _clip_image() -> CLIPVisionModelWithProjection:
    sizes = {"image_size": 8, "patch_size": 4, "num_hidden_layers": 3, "projection_dim": 8}
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, **CLIP))


def _animate3d() -> MultiViewMotionUNet:
    return _mvdream(
        1,
        motion_norm_frames="joint",
        align=False,
        mv_attention="animate3d",
        image_embedding_dim=_clip_image().config.projection_dim,
    )


def _dinov3() -> DINOv3ViTModel:
    sizes = {"hidden_size": 24, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    more = {"use_gated_mlp": True, "hidden_act": "silu", "num_register_tokens": 4, "image_size": 64}
    return DINOv3ViTModel(DINOv3ViTConfig(**sizes, **more))


def _triposplat_flow() -> TripoSplatFlow:
    sizes = {"width": 64, "num_heads": 1, "num_blocks": 2, "num_refiner_blocks": 1, "mlp_ratio": 1}
    return TripoSplatFlow(latent_tokens=16, appearance_channels=24, detail_channels=16, **sizes)


def _triposplat_decoder() -> TripoSplatDecoder:
    sizes = {"width": 24, "num_heads": 1, "octree_blocks": 1, "gaussian_blocks": 1, "mlp_ratio": 1}
    return TripoSplatDecoder(**sizes)


def _flux2_encoder() -> Flux2Encoder:
    return Flux2Encoder((8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4)


def _birefnet() -> BiRefNet:
    return BiRefNet(8, (1, 1, 2, 1), (1, 1, 2, 2), window_size=3, inner=8, branch=8)


NETWORKS = {
    "videomv-t2v-unet": Network(
        lambda: VideoMVUNet(**_unet_sizes(T2V["config"]["unet"])), converters.videomv_unet
    ),
    "videomv-i2v-unet": Network(
        lambda: VideoMVImageUNet(**_unet_sizes(I2V["config"]["unet"])), converters.videomv_unet
    ),
    "mvdream-v2-unet": Network(lambda: _mvdream(2, motion=False), converters.mvdream_unet),
    "vivid-zoo-unet": Network(lambda: _mvdream(1), converters.vivid_zoo_unet),
    "animate3d-unet": Network(_animate3d, converters.animate3d_unet),
    "lgm": Network(_lgm, converters.lgm),
    "lgm-fixrot": Network(_lgm, converters.lgm),
    "stable-diffusion-vae": Network(lambda: _vae(T2V["config"]["vae"]), converters.ldm_vae),
    "clip-l-text": Network(_clip_text_1, converters.ldm_clip_text),
    "clip-h-text": Network(_clip_text, converters.open_clip_text),
    "clip-h-image": Network(_clip_image, converters.open_clip_image),
    "triposplat-flow": Network(_triposplat_flow, image_model_converters.triposplat_flow),
    "triposplat-decoder": Network(_triposplat_decoder, image_model_converters.triposplat_decoder),
    "dinov3-h": Network(_dinov3, image_model_converters.dinov3),
    "flux2-encoder": Network(_flux2_encoder, image_model_converters.flux2_encoder),
    "birefnet": Network(_birefnet, image_model_converters.birefnet),
}


def use_small_networks() -> None:
    """For processes of their own: the published models are as small as the files that `publish` writes."""
    published.NETWORKS.update(NETWORKS)


def _open_clip() -> dict[str, Tensor]:
    """OpenCLIP's file: three text layers, of which two are used, and three image layers."""
    shapes: dict[str, object] = {
        "token_embedding.weight": (WORDS, WIDTH),
        "positional_embedding": (PROMPT, WIDTH),
        "text_projection": (WIDTH, 8),
        "logit_scale": (),
        "ln_final.weight": (WIDTH,),
        "ln_final.bias": (WIDTH,),
        "visual.class_embedding": (WIDTH,),
        "visual.positional_embedding": (5, WIDTH),
        "visual.conv1.weight": (WIDTH, 3, 4, 4),
        "visual.proj": (WIDTH, 8),
    }
    for norm in ("visual.ln_pre", "visual.ln_post"):
        shapes |= {f"{norm}.weight": (WIDTH,), f"{norm}.bias": (WIDTH,)}
    for tower in ("", "visual."):
        for i in range(3):
            block = f"{tower}transformer.resblocks.{i}"
            for norm in ("ln_1", "ln_2"):
                shapes |= {f"{block}.{norm}.weight": (WIDTH,), f"{block}.{norm}.bias": (WIDTH,)}
            for layer, out, size in (("attn.out_proj", WIDTH, WIDTH), ("mlp.c_fc", 64, WIDTH)):
                shapes |= {f"{block}.{layer}.weight": (out, size), f"{block}.{layer}.bias": (out,)}
            shapes |= {f"{block}.mlp.c_proj.weight": (WIDTH, 64), f"{block}.mlp.c_proj.bias": (WIDTH,)}
            shapes |= {
                f"{block}.attn.in_proj_weight": (3 * WIDTH, WIDTH),
                f"{block}.attn.in_proj_bias": (3 * WIDTH,),
            }
    return weights(shapes)


def _tokenizer(folder: Path) -> None:
    letters = [chr(ord("a") + i) for i in range(20)]
    words = ["!", *letters, *(f"{letter}</w>" for letter in letters), "ab", "ab</w>"]
    words += [f"c{letter}" for letter in letters[: WORDS - len(words) - 2]]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\na b\na b</w>\n")


def _animate3d_files(folder: Path) -> None:
    """What Animate3D needs besides MVDream."""
    unet, encoder = _animate3d(), _clip_image()
    widths = unet.config.block_out_channels
    _save(weights(animate3d_keys.animate3d(widths)), folder / "animate3d_motion_modules.ckpt")
    prompt = animate3d_keys.ip_adapter(widths, unet.config.cross_attention_dim, encoder.config.projection_dim)
    _save(weights(prompt), folder / "models" / "ip-adapter_sd15.safetensors")
    image = weights({name: p.shape for name, p in encoder.state_dict().items()})
    position_ids = {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
    _save(image | position_ids, folder / "models" / "image_encoder" / "model.safetensors")


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors, "step": 7}, path)


def _triposplat_files(folder: Path) -> None:
    """TripoSplat's four files; the autoencoder's has its decoder in it too."""
    flow, decoder, dinov3, encoder = (
        weights({name: tensor.shape for name, tensor in NETWORKS[network].make().state_dict().items()})
        for network in ("triposplat-flow", "triposplat-decoder", "dinov3-h", "flux2-encoder")
    )
    dinov3 = {name.removeprefix("model."): tensor for name, tensor in dinov3.items()}
    unused = {"decoder.conv_in.weight": torch.ones(2), "bn.num_batches_tracked": torch.tensor(3)}
    encoder["bn.running_var"] = encoder["bn.running_var"].abs() + 0.5
    _save(flow, folder / "diffusion_models" / "triposplat_fp16.safetensors")
    _save(decoder, folder / "vae" / "triposplat_vae_decoder_fp16.safetensors")
    _save(dinov3, folder / "clip_vision" / "dino_v3_vit_h.safetensors")
    _save(encoder | unused, folder / "vae" / "flux2-vae.safetensors")


def birefnet_as_published(network: BiRefNet) -> dict[str, Tensor]:
    """Weights for such a network, with the names of BiRefNet's file."""
    names: dict[str, object] = {}
    for parameter, tensor in network.state_dict().items():
        name, shape = parameter, tuple(tensor.shape)
        if name.startswith("bb."):
            name = re.sub(r"hidden_states_norms\.stage(\d)", lambda m: f"norm{int(m[1]) - 1}", name)
            for ours, theirs in _SWIN_NAMES.items():
                name = name.replace(ours, theirs)
            if ".k_proj." in name or ".v_proj." in name:
                continue
            if ".q_proj." in name:
                name, shape = name.replace(".q_proj.", ".qkv."), (3 * shape[0], *shape[1:])
        if not name.endswith("num_batches_tracked"):
            names[name] = shape
    found = weights(names)
    for name in list(found):
        if name.endswith("running_var"):
            found[name] = found[name].abs() + 0.5
    index, head = "bb.layers.0.blocks.0.attn.relative_position_index", "decoder.conv_ms_spvn_4.weight"
    return found | {name: torch.zeros(1) for name in (index, head, "decoder.gdt_convs_pred_2.0.bias")}


_SWIN_NAMES = {
    "swin.embeddings.patch_embeddings.projection": "patch_embed.proj",
    "swin.embeddings.norm": "patch_embed.norm",
    "swin.encoder.": "",
    ".attention.relative_position_bias.": ".attn.",
    ".attention.o_proj": ".attn.proj",
    ".attention.": ".attn.",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
}


def publish(model: str, folder: Path) -> Path:
    """Writes a model's published files into a folder, in their published layout; returns it."""
    if model == "background-removal":
        published_weights = birefnet_as_published(_birefnet())
        _save(published_weights, folder / "background_removal" / "birefnet.safetensors")
        return folder
    if model == "triposplat":
        _triposplat_files(folder)
        return folder
    _tokenizer(folder)
    vae = weights(T2V["keys"]["vae"], "first_stage_model.")
    if model in ("videomv-t2v", "videomv-i2v"):
        unpacked = folder / "pretrained_models"
        keys, name = (T2V, "t2v_00333000.pth") if model == "videomv-t2v" else (I2V, "i2v_882000.pth")
        _save(weights(keys["keys"]["videomv"]), unpacked / name)
        _save(vae, unpacked / "modelscope_t2v" / "VQGAN_autoencoder.pth")
        _save(_open_clip(), unpacked / "modelscope_t2v" / "open_clip_pytorch_model.bin")
        return folder
    reconstructor = weights({name: p.shape for name, p in _lgm().state_dict().items()})
    _save(reconstructor, folder / "model_fp16_fixrot.safetensors")
    if model == "mvdream-lgm":
        text = weights({name: p.shape for name, p in _clip_text().state_dict().items()}, "text_model.")
        _save(weights(MVDREAM[2]["keys"]["unet"]), folder / "unet" / "diffusion_pytorch_model.safetensors")
        plain = converters.ldm_vae(vae)
        _save(plain, folder / "vae" / "diffusion_pytorch_model.safetensors")
        _save(text, folder / "text_encoder" / "model.safetensors")
    else:
        text = weights({name: p.shape for name, p in _clip_text_1().state_dict().items()})
        unet = weights(MVDREAM[1]["keys"]["unet"], "model.diffusion_model.")
        text = {f"cond_stage_model.transformer.text_model.{name}": value for name, value in text.items()}
        _save(unet | vae | text | {"betas": torch.zeros(1000)}, folder / "sd-v1.5-4view.pt")
    if model == "vivid-zoo":
        adapter = {k: v for k, v in ANIMATEDIFF["keys"]["unet"].items() if "motion_modules." in k}
        _save(weights(adapter), folder / "diffusion_pytorch_model.safetensors")
    elif model == "animate3d":
        _animate3d_files(folder)
    return folder
