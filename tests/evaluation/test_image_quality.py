"""PSNR, SSIM, LPIPS and CLIP score on answers that are known, and without a network."""

from __future__ import annotations

import math
import socket

import pytest
import torch
import torchmetrics.functional.image.lpips as reference
from safetensors.torch import save_file

from backend.evaluation import image_quality
from backend.evaluation.clip_score import clip_score
from backend.models.checkpoints import read_checkpoint
from backend.shared.protocol import DioramaError
from tests.evaluation.measured import make_clip


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("something wanted to connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def random_images(count: int = 2, size: int = 48, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_identical_images_have_no_noise_and_full_similarity():
    assert image_quality.psnr(random_images(), random_images()) == math.inf
    assert image_quality.ssim(random_images(), random_images()) == pytest.approx(1)


def test_a_tenth_off_everywhere_is_20_db_and_the_mean_is_over_images():
    dark = torch.full((2, 3, 16, 16), 0.2)
    bright = dark + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    assert image_quality.psnr(bright[:1], dark[:1]) == pytest.approx(20, abs=1e-3)
    assert image_quality.psnr(bright, dark) == pytest.approx(30, abs=1e-2)  # 20 and 40


def test_noise_lowers_similarity():
    image = torch.linspace(0, 1, 48).expand(1, 3, 48, 48).contiguous()
    little, much = (image_quality.ssim(image, image + a * random_images(1)) for a in (0.02, 0.3))
    assert 1 > little > 0.9 > much


def test_lpips_is_torchmetrics_with_the_same_network(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = image_quality.vgg16_features()
    save_file(
        {f"features.{name}": value for name, value in network.state_dict().items()}
        | {"classifier.0.weight": torch.zeros(1)},
        tmp_path / "vgg16.safetensors",
    )
    found = image_quality.lpips_weights(tmp_path)
    ours = image_quality.vgg16_features(read_checkpoint(found))
    linear = image_quality.lpips_linear()
    one, other = random_images(), random_images(seed=1)
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda *arguments: network)
    expected = reference.learned_perceptual_image_patch_similarity(one, other, net_type="vgg", normalize=True)
    assert expected > 1e-3
    assert image_quality.lpips(one, other, ours, linear) == pytest.approx(float(expected), rel=1e-5)
    assert image_quality.lpips(one, one, ours, linear) == 0


def test_weights_that_are_not_there_or_not_vgg16_are_told_apart(tmp_path):
    assert image_quality.lpips_weights(tmp_path) is None
    with pytest.raises(DioramaError) as error:
        image_quality.vgg16_features({"features.0.weight": torch.zeros(2, 3, 3, 3)})
    assert error.value.code == "E_WEIGHTS_CORRUPT" and "VGG16" in error.value.message


def test_clip_score_is_the_cosine_of_image_and_prompt(tmp_path):
    from transformers import CLIPModel

    make_clip(tmp_path)
    eight_bit = (random_images(4, 32) * 255).round() / 255
    scores = [clip_score(eight_bit, prompt, tmp_path) for prompt in ("a red fish", "snow")]
    assert scores[0] != scores[1] and min(scores) > 0
    model = CLIPModel.from_pretrained(tmp_path).eval()
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    letters = [0, *(3 + 2 * (ord(letter) - 97) - (letter != "w") for letter in "snow"), 1]
    with torch.no_grad():
        seen = model.get_image_features(pixel_values=(eight_bit - mean) / std).pooler_output
        said = model.get_text_features(input_ids=torch.tensor([letters])).pooler_output
    expected = 100 * torch.cosine_similarity(seen, said).clamp_min(0).mean().item()
    assert scores[1] == pytest.approx(expected, abs=0.01)


def test_an_incomplete_clip_folder_is_named(tmp_path):
    make_clip(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(DioramaError) as error:
        clip_score(random_images(), "a fish", tmp_path)
    assert error.value.code == "E_WEIGHTS_CORRUPT" and str(tmp_path) in error.value.message
