"""A prompt to an image to splats: any diffusers pipeline in front of a model that needs an image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from backend.pipelines import background_removal, generate, text_to_image
from backend.shared import asset
from backend.shared.model_store import ROOT_VARIABLE
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image pipeline as small as can be, with random weights."""
    torch.manual_seed(0)
    letters = [f"{chr(ord('a') + i)}{end}" for i in range(26) for end in ("", "</w>")]
    words = {word: i for i, word in enumerate(["!", *letters, ",</w>", "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=words, merges=[], pad_token="<|endoftext|>", model_max_length=16)
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    pipeline = StableDiffusionPipeline(
        vae=tiny.autoencoder(1),
        text_encoder=CLIPTextModel(CLIPTextConfig(vocab_size=len(words), max_position_embeddings=16, **text)),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=24, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=16,
            attention_head_dim=4, norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("pipeline")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = StableDiffusionPipeline.__call__

    def call(self: StableDiffusionPipeline, *args: object, **options: object) -> object:
        return whole(self, *args, num_inference_steps=3, **options)

    monkeypatch.setattr(StableDiffusionPipeline, "__call__", call)


def test_prompt_becomes_an_image_a_matte_and_splats(
    root: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "require", lambda name: root / name)
    monkeypatch.setattr(background_removal, "SIZE_PX", 64)
    monkeypatch.setenv(ROOT_VARIABLE, str(root))
    request = GenerationRequest("a red chair", "triposplat", seed=3, text_to_image=str(folder))
    made, again = (
        asset.read_asset(generate.generate(request, tmp_path / name, Progress())) for name in ("a", "b")
    )
    assert made.request == request.to_dict()
    kept = np.asarray(Image.open(made.directory / "source/prompt.png"))
    assert kept.shape == (48, 48, 3) and kept.std() > 1
    assert Image.open(made.directory / "source/object.png").size == (64, 64)
    assert made.splats[0].read_bytes() == again.splats[0].read_bytes()
    other = text_to_image.image_of("a red chair", folder, 4, Progress())
    assert np.abs(other * 255 - kept).max() > 2


def test_pipeline_is_cancelled_between_steps(folder: Path) -> None:
    class Cancelled(Progress):
        def step(self, i: int, total: int) -> None:
            self.cancel()
            super().step(i, total)

    with pytest.raises(DioramaError, match="E_CANCELLED"):
        text_to_image.image_of("a chair", folder, 0, Cancelled())


def test_memory_that_runs_out_leads_to_the_next_plan_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_to_image, "WORKSPACE_BYTES", 0)
    whole, calls = text_to_image._load, []

    def fails_once(*args: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(*args)

    monkeypatch.setattr(text_to_image, "_load", fails_once)
    progress = Progress()
    text_to_image.image_of("a chair", folder, 0, progress)
    assert any("trying again, once" in warning for warning in progress.warnings)


def test_folder_without_a_pipeline_is_refused_with_the_way_to_get_one(
    root: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "require", lambda name: root / name)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    with pytest.raises(DioramaError, match=r"E_WEIGHTS_MISSING.*an image must be made") as refused:
        generate.generate(GenerationRequest("a chair", "triposplat"), tmp_path / "asset", Progress())
    assert str(tmp_path / "text-to-image") in refused.value.message
    assert "FLUX.2-klein-4B" in refused.value.hint and "download text-to-image" in refused.value.hint
    other = tmp_path / "other"
    (other / "unet").mkdir(parents=True)
    (other / "model_index.json").write_text(json.dumps({"_class_name": "NoSuchPipeline"}))
    with pytest.raises(DioramaError, match="E_WEIGHTS_MISSING"):
        text_to_image.image_of("a chair", other, 0, Progress())
    for file in ("config.json", "diffusion_pytorch_model.safetensors"):
        (other / "unet" / file).write_bytes((folder / "unet" / file).read_bytes())
    with pytest.raises(DioramaError, match="E_WEIGHTS_CORRUPT"):
        text_to_image.image_of("a chair", other, 0, Progress())
