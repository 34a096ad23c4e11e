"""The files of FLUX.2-klein-4B, a text-to-image pipeline of diffusers, which stay as they are published.

Left out are the samples, and the transformer once more for other programs.
"""

from __future__ import annotations

from .published_files import Source, SourceFile

_SOURCE = Source(
    "black-forest-labs--FLUX.2-klein-4B",
    "https://huggingface.co/black-forest-labs/FLUX.2-klein-4B",
    "black-forest-labs/FLUX.2-klein-4B",
    "e7b7dc27f91deacad38e78976d1f2b499d76a294",
)
_FILES = (
    ("LICENSE.md", 0.001, "ca02bc51900ab07789d1b70283329e7137f5af98f5161c23a1c81fc38a4af1fe"),
    ("model_index.json", 0.001, "51a76cb1cf3ed37423a1128c79c22faee8e6fbe7f5aaeb737f0a258930dbaac0"),
    (
        "scheduler/scheduler_config.json",
        0.001,
        "067afb012cef64553a763447d1efd93daeffcc0123ca7e25b09f8de20b90762e",
    ),
    ("text_encoder/config.json", 0.001, "214b4c29a0d975e9fddf9994a5673f22cb2c4c5750352f9227c2c3251ebeab40"),
    (
        "text_encoder/generation_config.json",
        0.001,
        "4347b1aeed2b2b78bc059920a0b7f5fec71482e1344952b76d7665d638d71f13",
    ),
    (
        "text_encoder/model-00001-of-00002.safetensors",
        4.97,
        "8c0506e7f4936fa7e26183a4fd8da4e2bdbc5990ba64ae441f965d51228f36ea",
    ),
    (
        "text_encoder/model-00002-of-00002.safetensors",
        3.08,
        "82f2bd839378541b0557bfabaf37c7d3d637071fdcb73302dedd7cf61162ce07",
    ),
    (
        "text_encoder/model.safetensors.index.json",
        0.001,
        "06b3d5319b6d76d1a4a2433419180016cfd54ed62d086a5e6567a809f8c82634",
    ),
    (
        "tokenizer/added_tokens.json",
        0.001,
        "c0284b582e14987fbd3d5a2cb2bd139084371ed9acbae488829a1c900833c680",
    ),
    (
        "tokenizer/chat_template.jinja",
        0.001,
        "a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8",
    ),
    ("tokenizer/merges.txt", 0.001, "8831e4f1a044471340f7c0a83d7bd71306a5b867e95fd870f74d0c5308a904d5"),
    (
        "tokenizer/special_tokens_map.json",
        0.001,
        "76862e765266b85aa9459767e33cbaf13970f327a0e88d1c65846c2ddd3a1ecd",
    ),
    (
        "tokenizer/tokenizer_config.json",
        0.001,
        "443bfa629eb16387a12edbf92a76f6a6f10b2af3b53d87ba1550adfcf45f7fa0",
    ),
    ("tokenizer/vocab.json", 0.001, "ca10d7e9fb3ed18575dd1e277a2579c16d108e32f27439684afa0e10b1440910"),
    ("transformer/config.json", 0.001, "09733c74a3da6d17dd0a0472a091a8950c7c6935889c32c16cc800ede05029de"),
    (
        "transformer/diffusion_pytorch_model.safetensors",
        7.75,
        "9f29f9edcfdae452a653ffb51a534ca4decd389952c225724ff3b94042612a6e",
    ),
    ("vae/config.json", 0.001, "0d6dfb69ae95a5e2ac9836284bbb63d8b38ce67b25ba2dff380752b2a10ab948"),
    (
        "vae/diffusion_pytorch_model.safetensors",
        0.17,
        "ca70d2202afe6415bdbcb8793ba8cd99fd159cfe6192381504d6c4d3036e0f04",
    ),
)

FLUX2_KLEIN_FILES = tuple(
    SourceFile(_SOURCE, name, size_gb, sha256=sha256) for name, size_gb, sha256 in _FILES
)
