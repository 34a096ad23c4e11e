"""Our networks at full size take exactly the parameters of the published files."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from backend.install.published import NETWORKS

from . import animate3d_keys

KEYS = Path(__file__).parents[1] / "data" / "parity" / "published_keys.txt.gz"


@cache
def published(file: str) -> dict[str, Tensor]:
    """Names and shapes of a published file, as tensors without data."""
    rows = map(str.split, gzip.decompress(KEYS.read_bytes()).decode().splitlines())
    return {
        name: torch.empty([int(n) for n in shape[0].split("x")] if shape else (), device="meta")
        for owner, name, *shape in rows
        if owner == file
    }


@pytest.mark.parametrize(
    ("network", "file", "parameters"),
    [
        ("videomv-t2v-unet", "t2v", 1_412_895_300),
        ("videomv-i2v-unet", "i2v", 1_422_130_664),
        ("lgm", "t2v", 415_042_848),
        ("lgm", "i2v", 415_042_848),
        ("mvdream-v1-unet", "mvdream-v1", 861_182_404),
        ("mvdream-v2-unet", "mvdream-v2", 867_572_164),
        ("triposplat-flow", "triposplat-flow", 370_526_101),
        ("triposplat-decoder", "triposplat-decoder", 50_791_432 + 237_262_304),
    ],
)
def test_full_size_network_has_the_published_keys_and_shapes(
    network: str, file: str, parameters: int
) -> None:
    with torch.device("meta"):
        model = NETWORKS[network].make()
    converted = NETWORKS[network].convert(published(file))
    ours = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in converted.items()} == ours
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_vivid_zoo_is_mvdream_and_animatediff_and_84_new_tensors() -> None:
    with torch.device("meta"):
        model = NETWORKS["vivid-zoo-unet"].make()
    ours = model.state_dict()
    converted = NETWORKS["vivid-zoo-unet"].convert(published("mvdream-v1") | published("animatediff-v2"))
    assert converted.keys() == ours.keys()
    motion = sum(tensor.numel() for name, tensor in ours.items() if "motion_modules." in name)
    alignment = model.alignment()
    assert len(alignment) == 84
    assert sum(p.numel() for p in alignment.values()) == 41_202_560
    assert motion == 453_209_280 + 41_202_560
    assert sum(p.numel() for p in model.parameters()) == 1_355_594_244


def test_animate3d_is_mvdream_its_motion_modules_and_an_image_prompt() -> None:
    """The names are those of the public code; see `animate3d_keys`."""
    with torch.device("meta"):
        model = NETWORKS["animate3d-unet"].make()
        files = animate3d_keys.animate3d(), animate3d_keys.ip_adapter()
        motion, prompt = ({name: torch.empty(shape) for name, shape in file.items()} for file in files)
    converted = NETWORKS["animate3d-unet"].convert(published("mvdream-v1") | motion | prompt)
    ours = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in converted.items()} == ours
    assert len(motion) == 888
    assert len(ours.keys() - motion.keys()) == 726  # which the authors' inference asserts
    parts = {
        "_sp.": 164_696_960,  # and 42 factors that mix
        "_i2v.": 24_793_280,
        "_ip.": 19_169_280,
        "image_projection.": 3_150_336,
    }
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    for part, size in parts.items():
        assert sum(count for name, count in sizes.items() if part in name) == size, part
    assert sum(sizes.values()) == 861_182_404 + 453_209_280 + sum(parts.values()) + 42 == 1_526_201_582


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        ("clip-l-text", 123_060_480),
        ("clip-h-text", 340_387_840),
        ("clip-h-image", 632_076_800),
        ("stable-diffusion-vae", 83_653_863),
        ("dinov3-h", 840_591_360 + 1280),
        ("flux2-encoder", 34_425_856),
    ],
)
def test_encoders_have_the_published_number_of_parameters(network: str, parameters: int) -> None:
    with torch.device("meta"):
        model = NETWORKS[network].make()
    assert sum(p.numel() for p in model.parameters()) == parameters
