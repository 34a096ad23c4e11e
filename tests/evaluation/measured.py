"""Assets to measure, and networks to measure them with, as small as can be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from backend.cameras import orbit
from backend.gaussians.fitting import SplatParameters
from backend.shared.asset import write_asset
from tests.gaussians.painted_blob import FOV_DEG, painted_blob, painted_images

SIZE = 48


def blob(brightness: float = 0.0, shift: float = 0.0) -> SplatParameters:
    splats = painted_blob(600)
    moved = splats.means + torch.tensor([0, 0, shift])
    return replace(splats, sh=splats.sh + brightness / 0.28209479, means=moved)


def make_asset(folder, shown, views=None, count=4, opaque=False, blending="linear"):
    """An asset with one cloud a frame, and views that are images of the same clouds, or of others."""
    cameras = orbit(count, 15.0, 2.0)
    rgba = torch.stack([painted_images(splats, cameras, SIZE, blending) for splats in views or shown], 1)
    if opaque:
        rgba = rgba[:, :, :3] * rgba[:, :, 3:] + 0.5 * (1 - rgba[:, :, 3:])
    return write_asset(
        folder,
        request={"prompt": "a painted blob", "seed": 1},
        model="starter",
        clouds=[splats.to_cloud() for splats in shown],
        views=rgba.movedim(2, -1).numpy(),
        cameras=cameras.numpy(),
        fov_deg=FOV_DEG,
        blending=blending,
        timings={},
    )


def make_clip(folder: Path) -> None:
    """A CLIP model with random weights and a tokenizer of letters."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": 60, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPConfig(
        text_config=sizes | text, vision_config=sizes | {"image_size": 32, "patch_size": 8}, projection_dim=16
    )
    model = CLIPModel(config)
    model.text_projection.weight.data.neg_()  # or every cosine of this seed would be below 0
    model.save_pretrained(folder)
    letters = [letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    words = {word: i for i, word in enumerate(["<|startoftext|>", "<|endoftext|>", *letters])}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def make_videomae(folder: Path, **changes: object) -> None:
    """A VideoMAE for four frames of 32 pixels, with random weights; as finetuned, if nothing is changed."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=32, patch_size=8, num_frames=4, tubelet_size=2, hidden_size=24, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=48, num_labels=5, initializer_range=0.3, **changes,
    )  # fmt: skip
    VideoMAEForVideoClassification(config).save_pretrained(folder)
