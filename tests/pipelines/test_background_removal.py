"""BiRefNet: deformable convolutions, the published layout, and photographs that are cut out by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.install import image_model_converters
from backend.models.birefnet import BiRefNet, as_patches, deformable_conv
from backend.models.checkpoints import load_strictly
from backend.pipelines import background_removal, generate, image_source
from backend.shared.model_store import ROOT_VARIABLE
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest
from tests.install import published_models


def test_deformable_convolution_is_the_sum_of_its_taps() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1, 3, 6, 5), torch.randn(2, 3, 3, 3)
    offsets, modulation = 2.5 * torch.randn(1, 18, 6, 5), torch.rand(1, 9, 6, 5)

    def pixel(row: int, column: int) -> torch.Tensor:
        inside = 0 <= row < 6 and 0 <= column < 5
        return x[0, :, row, column] if inside else torch.zeros(3)

    expected = torch.zeros(2, 6, 5)
    for i in range(6):
        for j in range(5):
            for tap in range(9):
                y = i + tap // 3 - 1 + offsets[0, 2 * tap, i, j].item()
                z = j + tap % 3 - 1 + offsets[0, 2 * tap + 1, i, j].item()
                top, left = int(np.floor(y)), int(np.floor(z))
                down, right = y - top, z - left
                seen = (1 - down) * ((1 - right) * pixel(top, left) + right * pixel(top, left + 1))
                seen = seen + down * ((1 - right) * pixel(top + 1, left) + right * pixel(top + 1, left + 1))
                seen = seen * modulation[0, tap, i, j]
                expected[:, i, j] += weight[:, :, tap // 3, tap % 3] @ seen
    torch.testing.assert_close(
        deformable_conv(x, offsets, modulation, weight)[0], expected, atol=1e-5, rtol=0
    )
    still = deformable_conv(x, torch.zeros_like(offsets), torch.ones_like(modulation), weight)
    plain = torch.nn.functional.conv2d(x, weight, padding=1)
    torch.testing.assert_close(still, plain, atol=1e-5, rtol=0)


def test_patches_lie_upon_each_other_row_by_row() -> None:
    image = torch.arange(2 * 4 * 4).float().view(1, 2, 4, 4)
    parts = as_patches(image, 2)
    assert parts.shape == (1, 8, 2, 2)
    for channel in range(2):
        for row in range(2):
            for column in range(2):
                part = image[:, channel, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                assert torch.equal(parts[:, 4 * channel + 2 * row + column], part)


def test_published_file_fills_the_network_and_nothing_else_does() -> None:
    with torch.device("meta"):
        whole = BiRefNet()
    used = sum(p.numel() for p in whole.parameters())
    assert used == 220_176_498 - _unused()
    weights = published_models.birefnet_as_published(published_models.NETWORKS["birefnet"].make())
    net = published_models.NETWORKS["birefnet"].make()
    load_strictly(net, image_model_converters.birefnet(weights), "birefnet")
    qkv = weights["bb.layers.0.blocks.0.attn.qkv.weight"]
    first = net.bb.swin.encoder.layers[0].blocks[0].attention
    assert torch.equal(first.k_proj.weight, qkv.chunk(3)[1])
    del weights["decoder.lateral_block3.conv.bias"]
    with pytest.raises(DioramaError, match="lateral_block3"):
        load_strictly(net, image_model_converters.birefnet(weights), "birefnet")
    assert image_model_converters.birefnet({"octree.in_proj.weight": torch.zeros(1)}) == {}


def _unused() -> int:
    """Parameters of the published file that only training uses: heads of three levels and their outlines."""
    return (1536 + 1) + (768 + 1) + (384 + 1) + 3 * (16 + 1)


@pytest.fixture
def photo(tmp_path: Path) -> str:
    pixels = np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def test_photograph_is_cut_out_where_background_removal_is_installed(
    root: Path, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_removal, "SIZE_PX", 64)
    monkeypatch.setenv(ROOT_VARIABLE, str(root))
    progress = Progress()
    matte = background_removal.installed_matte(progress)
    assert matte is not None
    rgba = image_source.read_object(Path(photo), matte)
    assert rgba.shape == (80, 100, 4) and rgba[..., 3].std() > 0
    progress.finish()
    assert "Cutting out the object" in progress.timings


def test_photograph_is_refused_where_it_is_not_with_the_way_to_install_it(
    photo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    with pytest.raises(DioramaError, match="E_IMAGE") as refused:
        generate._source_images(GenerationRequest(image=photo, model="videomv-i2v"), Progress())
    assert "models download background-removal" in refused.value.hint


def test_memory_that_runs_out_while_cutting_out_leads_to_the_next_plan_once(
    root: Path, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_removal, "SIZE_PX", 64)
    monkeypatch.setattr(background_removal, "WORKSPACE_BYTES", 0)
    monkeypatch.setenv(ROOT_VARIABLE, str(root))
    whole, plans = background_removal.alpha_of, []

    def runs_out(network: BiRefNet, images: torch.Tensor) -> torch.Tensor:
        plans.append(network.dtype)
        if len(plans) <= failures:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(network, images)

    monkeypatch.setattr(background_removal, "alpha_of", runs_out)
    failures, progress = 1, Progress()
    rgba = image_source.read_object(Path(photo), background_removal.installed_matte(progress))
    assert rgba[..., 3].std() > 0 and len(plans) == 2
    assert any("trying again, once" in warning for warning in progress.warnings)
    failures = 4
    with pytest.raises(DioramaError, match="E_OUT_OF_MEMORY"):
        image_source.read_object(Path(photo), background_removal.installed_matte(Progress()))
    assert len(plans) == 4
