"""Installing models from published files: small ones, with the published names."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections import namedtuple
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from backend import job
from backend.gaussians.tracking import Effort
from backend.install import converters, install, published
from backend.install.published_settings import SETTINGS
from backend.models.alignment import save_alignment
from backend.models.lgm import LGM
from backend.models.multiview_motion_unet import MultiViewMotionUNet
from backend.models.videomv_unet import VideoMVImageUNet, VideoMVUNet
from backend.pipelines import dynamic_splats, views
from backend.pipelines.settings import read_settings
from backend.shared import asset, manifests, model_store, ply
from backend.shared.catalogue import COMPANIONS, MODELS
from backend.shared.manifests import sha256
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest
from tests.install import published_models

REAL_NETWORKS = set(published.NETWORKS)
LARGE = [name for name, model in MODELS.items() if model.components and model.pipeline == "views"]


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, network in published_models.NETWORKS.items():
        monkeypatch.setitem(published.NETWORKS, name, network)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The published files of each model."""
    root = tmp_path_factory.mktemp("published")
    return {name: published_models.publish(name, root / name) for name in LARGE}


@pytest.fixture(scope="module")
def installed(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with mvdream-lgm in it; tests link its files."""
    root = tmp_path_factory.mktemp("installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "NETWORKS", published_models.NETWORKS)
        install.convert("mvdream-lgm", root, files["mvdream-lgm"], Progress())
    return root


def linked(folder: Path, target: Path) -> Path:
    """A copy without the bytes: a file of it is changed by taking it away and writing another."""
    return Path(shutil.copytree(folder, target, copy_function=os.link))


def rewrite(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


@pytest.fixture
def root(installed: Path, tmp_path: Path) -> Path:
    return linked(installed, tmp_path / "models")


def is_installed(name: str, root: Path) -> bool:
    return model_store.state(model_store.known(name), root).installed


@pytest.mark.parametrize("name", LARGE)
def test_published_files_become_a_model_that_is_read_back(
    name: str, files: dict[str, Path], tmp_path: Path
) -> None:
    told: list[str] = []
    progress = Progress(lambda event, fields: told.append(fields["stage"]) if event == "stage" else None)
    report = install.convert(name, tmp_path, files[name], progress)
    folder = tmp_path / name
    assert Path(report["folder"]) == model_store.require(name, tmp_path) == folder
    assert {part["folder"] for part in report["components"]} == {c.folder for c in MODELS[name].components}
    assert "Converting unet" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
    assert any("naive composition" in warning for warning in progress.warnings) == (name == "vivid-zoo")

    kinds: dict[str, Any] = {"videomv-t2v": VideoMVUNet, "videomv-i2v": VideoMVImageUNet}
    unet = kinds.get(name, MultiViewMotionUNet).from_pretrained(folder / "unet")
    assert all(torch.isfinite(p).all() for p in unet.parameters())
    LGM.from_pretrained(folder / "reconstructor")
    AutoencoderKL.from_pretrained(folder / "autoencoder")
    text = CLIPTextModel.from_pretrained(folder / "text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    tokens = tokenizer("AB a", padding="max_length", return_tensors="pt").input_ids
    first, last = tokenizer.bos_token_id, tokenizer.eos_token_id
    words = [tokenizer.convert_tokens_to_ids(word) for word in ("ab</w>", "a</w>")]
    filler = last if name in ("vivid-zoo", "animate3d") else 0
    assert tokens.tolist() == [[first, *words, last, filler, filler, filler]]
    assert text(tokens).last_hidden_state.shape == (1, 7, text.config.hidden_size)
    if isinstance(unet, MultiViewMotionUNet):
        assert text.config.hidden_size == unet.config.cross_attention_dim
    if name in ("videomv-i2v", "animate3d"):
        CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder")
    settings = json.loads((folder / "model.json").read_text())
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    assert scheduler.config["beta_schedule"] == settings["schedule"]["beta_schedule"]


def test_installed_model_makes_an_asset(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way at the published sizes of images, through networks that are narrow and know nothing."""
    monkeypatch.setenv("DIORAMA_MODELS", str(root))
    monkeypatch.setattr(views, "_MOST_STEPS", 2)
    request = GenerationRequest("ab a", model="mvdream-lgm", steps=2)
    made = asset.read_asset(job.run(request, tmp_path / "asset", Progress())["asset"])
    assert made.model == "mvdream-lgm" and made.request == request.to_dict()
    assert len(made.views) == 4
    shown = np.stack([np.asarray(Image.open(frames[0])) for frames in made.views])
    assert shown.shape == (4, 256, 256, 4)
    assert shown[..., :3].std() > 1  # something was drawn
    (cloud,) = (ply.read_ply(path) for path in made.splats)
    assert 6000 < len(cloud) <= 2 * 4 * 32 * 32  # halves, without floaters
    assert np.isfinite(cloud.means).all()
    spread = np.linalg.norm(made.cameras[:, :3, 3], axis=1)
    assert np.allclose(spread, 1.5)  # the published orbit


@pytest.mark.parametrize("name", ["vivid-zoo", "animate3d"])
def test_installed_model_makes_an_asset_that_moves(
    name: str, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way again, but for images of a quarter of the published side, to save time."""
    install.convert(name, tmp_path, files[name], Progress())
    large = read_settings(tmp_path / name)
    rendering = dataclasses.replace(large.rendering, size_px=128)
    dataclasses.replace(large, size_px=64, rendering=rendering).write(tmp_path / name)
    manifests.seal(tmp_path / name, name)
    monkeypatch.setenv("DIORAMA_MODELS", str(tmp_path))
    monkeypatch.setattr(dynamic_splats, "track", partial(dynamic_splats.track, effort=Effort(2, 1, 1, 1, 1)))
    request = GenerationRequest("ab a", model=name, steps=1, frames=2)
    progress = Progress()
    made = asset.read_asset(job.run(request, tmp_path / "asset", progress)["asset"])
    assert made.tracked
    assert [len(frames) for frames in made.views] == [2] * 4
    first, second = (ply.read_ply(path) for path in made.splats)
    assert len(first) == len(second) > 0
    assert np.array_equal(first.opacities, second.opacities)
    # Nobody has published an alignment; Animate3D was trained.
    assert any("not trained" in warning for warning in progress.warnings) == (name == "vivid-zoo")
    rounds = [stage for stage in progress.timings if stage.startswith("Denoising the video, ")]
    assert len(rounds) == (3 if name == "animate3d" else 0)


def test_settings_are_the_published_ones(files: dict[str, Path], root: Path) -> None:
    assert SETTINGS.keys() == set(LARGE)
    assert (SETTINGS["videomv-t2v"]["guidance"], SETTINGS["videomv-i2v"]["guidance"]) == (9.0, 6.0)
    read = json.loads((root / "mvdream-lgm" / "model.json").read_text())
    assert read == json.loads(json.dumps(SETTINGS["mvdream-lgm"]))


def test_weights_arrive_under_the_names_that_they_belong_to(files: dict[str, Path], root: Path) -> None:
    theirs = published_models.weights(published_models.MVDREAM[2]["keys"]["unet"])
    unet = MultiViewMotionUNet.from_pretrained(root / "mvdream-lgm" / "unet")
    ours = unet.state_dict()
    assert torch.equal(ours["conv_in.weight"], theirs["input_blocks.0.0.weight"])
    assert torch.equal(ours["camera_embedding.linear_2.bias"], theirs["camera_embed.2.bias"])


def test_manifest_records_what_the_model_was_made_from(files: dict[str, Path], root: Path) -> None:
    sources = manifests.read_manifest(root / "mvdream-lgm")["sources"]
    lgm = files["mvdream-lgm"] / "model_fp16_fixrot.safetensors"
    assert sources[lgm.name] == {"size": lgm.stat().st_size, "sha256": sha256(lgm)}
    assert set(sources) == {
        "unet/diffusion_pytorch_model.safetensors",
        "model_fp16_fixrot.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
    }


def test_installing_again_from_other_files_is_noticed(files: dict[str, Path], root: Path) -> None:
    other = linked(files["mvdream-lgm"], root.parent / "other")
    merges = other / "tokenizer" / "merges.txt"
    rewrite(merges, merges.read_bytes() + b"c a\n")
    progress = Progress()
    install.convert("mvdream-lgm", root, other, progress)
    (warning,) = progress.warnings
    assert "tokenizer/merges.txt" in warning
    assert is_installed("mvdream-lgm", root)


@pytest.mark.parametrize(
    ("given", "wanted"), [("videomv-t2v", "videomv-i2v"), ("videomv-i2v", "videomv-t2v")]
)
def test_checkpoint_of_another_model_is_refused(
    given: str, wanted: str, files: dict[str, Path], tmp_path: Path
) -> None:
    folder = linked(files[wanted], tmp_path / "files")
    (checkpoint,) = folder.glob("*/?2v_*.pth")
    (other,) = files[given].glob("*/?2v_*.pth")
    rewrite(checkpoint, other.read_bytes())
    with pytest.raises(DioramaError, match=r"E_WEIGHTS_CORRUPT.*does not hold the weights of VideoMV"):
        install.convert(wanted, tmp_path / "models", folder, Progress())
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("file", ["model_fp16_fixrot.safetensors", "tokenizer/vocab.json"])
def test_truncated_file_is_refused_and_nothing_is_left(
    file: str, files: dict[str, Path], tmp_path: Path
) -> None:
    folder = linked(files["mvdream-lgm"], tmp_path / "files")
    data = (folder / file).read_bytes()
    rewrite(folder / file, data[: len(data) // 2])
    with pytest.raises(DioramaError, match=rf"E_WEIGHTS_CORRUPT.*{Path(file).name}"):
        install.convert("mvdream-lgm", tmp_path / "models", folder, Progress())
    assert list((tmp_path / "models").iterdir()) == []


def test_tokenizer_of_another_text_encoder_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    folder = linked(files["mvdream-lgm"], tmp_path / "files")
    path = folder / "tokenizer" / "vocab.json"
    words = json.loads(path.read_bytes())
    rewrite(path, json.dumps(words | {"one more": len(words)}).encode())
    with pytest.raises(DioramaError, match="51 words; the text encoder knows 50"):
        install.convert("mvdream-lgm", tmp_path / "models", folder, Progress())


def test_alignment_is_taken_if_it_was_trained_between_these_networks(
    files: dict[str, Path], tmp_path: Path
) -> None:
    folder, root = linked(files["vivid-zoo"], tmp_path / "files"), tmp_path / "models"
    install.convert("vivid-zoo", root, folder, Progress())
    unet = MultiViewMotionUNet.from_pretrained(root / "vivid-zoo" / "unet")
    for parameter in unet.alignment().values():
        torch.nn.init.normal_(parameter)
    save_alignment(unet, folder / "alignment.safetensors")
    progress = Progress()
    install.convert("vivid-zoo", root, folder, progress)
    assert not any("naive composition" in warning for warning in progress.warnings)
    found = MultiViewMotionUNet.from_pretrained(root / "vivid-zoo" / "unet").state_dict()
    assert all(torch.equal(found[name], value) for name, value in unet.state_dict().items())

    torch.nn.init.normal_(unet.conv_in.weight)  # another network
    (folder / "alignment.safetensors").unlink()
    save_alignment(unet, folder / "alignment.safetensors")
    with pytest.raises(DioramaError, match=r"E_WEIGHTS_CORRUPT.*alignment.safetensors was trained on other"):
        install.convert("vivid-zoo", root, folder, Progress())
    assert is_installed("vivid-zoo", root)


def test_missing_files_are_named_with_where_they_are_from_and_go(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    with pytest.raises(DioramaError) as refusal:
        install.convert("videomv-t2v", tmp_path / "models", tmp_path / "files", Progress())
    assert refusal.value.code == "E_WEIGHTS_MISSING"
    assert "t2v_00333000.pth, modelscope_t2v/VQGAN_autoencoder.pth" in refusal.value.message
    assert "pretrained_models.zip of VideoMV" in refusal.value.hint
    assert str(tmp_path / "files" / "videomv") in refusal.value.hint
    assert not (tmp_path / "models").exists()


def test_full_disk_is_refused_before_the_work(
    files: dict[str, Path], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 1 << 20))
    with pytest.raises(DioramaError, match=r"E_DISK_FULL.*0\.0 GB free"):
        install.convert("mvdream-lgm", root, files["mvdream-lgm"], Progress())
    model_store.verify("mvdream-lgm", root, Progress())  # what was there is still whole


def test_cancelled_conversion_leaves_nothing(files: dict[str, Path], tmp_path: Path) -> None:
    def cancel(event: str, fields: dict[str, Any]) -> None:
        if event == "stage" and fields["stage"] == "Recording checksums":
            progress.cancel()

    progress = Progress(cancel)
    with pytest.raises(DioramaError, match="E_CANCELLED"):
        install.convert("mvdream-lgm", tmp_path / "models", files["mvdream-lgm"], progress)
    assert list((tmp_path / "models").iterdir()) == []


def test_half_finished_conversion_is_not_installed(
    files: dict[str, Path], root: Path, tmp_path: Path
) -> None:
    """As a killed process leaves it: components without a manifest, or the staging folder."""
    (root / "mvdream-lgm" / "manifest.json").unlink()
    (root / ".unfinished-mvdream-lgm").mkdir()
    assert not is_installed("mvdream-lgm", root)
    with pytest.raises(DioramaError, match=r"E_WEIGHTS_MISSING.*not installed.*models download mvdream-lgm"):
        model_store.require("mvdream-lgm", root)
    install.convert("mvdream-lgm", root, files["mvdream-lgm"], Progress())
    model_store.verify("mvdream-lgm", root, Progress())
    assert sorted(path.name for path in root.iterdir()) == ["mvdream-lgm"]


def test_foreign_files_stay_when_a_model_is_installed_over_them(files: dict[str, Path], root: Path) -> None:
    note = root / "mvdream-lgm" / "unet" / "note.txt"
    note.write_text("mine")
    install.convert("mvdream-lgm", root, files["mvdream-lgm"], Progress())
    assert note.read_text() == "mine"
    model_store.verify("mvdream-lgm", root, Progress())


def test_every_component_of_the_catalogue_has_a_network() -> None:
    models = model_store.INSTALLABLE.values()
    used = {c.network for m in models for c in m.components if c.network}
    assert used == published_models.NETWORKS.keys()
    assert used <= REAL_NETWORKS


def test_autoencoder_with_the_names_of_early_diffusers_is_read() -> None:
    old = {f"encoder.mid_block.attentions.0.{n}.weight": torch.ones(2, 2) for n in ("query", "key", "value")}
    old["encoder.mid_block.attentions.0.proj_attn.bias"] = torch.ones(2)
    names = {name.rpartition("attentions.0.")[2] for name in converters.ldm_vae(old)}
    assert names == {"to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.bias"}


def _text_to_image_files(folder: Path, ours: bool) -> list[Path]:
    """Files with the published names of FLUX.2-klein-4B and nothing of it inside."""
    paths = []
    for file in COMPANIONS["text-to-image"].files:
        path = folder / file.source.folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.name)
        if ours:
            model_store.checked_mark(path).write_text("downloaded")
        paths.append(path)
    return paths


def test_pipeline_of_diffusers_is_put_in_place_as_it_is_without_a_second_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloaded = _text_to_image_files(tmp_path / "downloads", ours=True)
    monkeypatch.setattr(shutil, "copyfile", None)
    progress = Progress()
    install.download("text-to-image", tmp_path, progress)
    assert any("not the published files" in warning for warning in progress.warnings)
    assert model_store.is_pipeline(model_store.text_to_image_folder(tmp_path))
    shard = tmp_path / "text-to-image/text_encoder/model-00001-of-00002.safetensors"
    assert shard.read_text() == "text_encoder/model-00001-of-00002.safetensors"
    assert not any(path.exists() for path in downloaded)
    model_store.verify("text-to-image", tmp_path, Progress())
    shard.unlink()
    assert not is_installed("text-to-image", tmp_path)


def test_files_that_somebody_fetched_are_copied_and_stay(tmp_path: Path) -> None:
    fetched = _text_to_image_files(tmp_path / "files", ours=False)
    install.convert("text-to-image", tmp_path / "models", tmp_path / "files", Progress())
    assert is_installed("text-to-image", tmp_path / "models")
    assert all(path.stat().st_nlink == 1 for path in fetched)


def test_pipeline_that_somebody_put_there_is_not_mixed_with_another(tmp_path: Path) -> None:
    theirs = tmp_path / "text-to-image/model_index.json"
    theirs.parent.mkdir()
    theirs.write_text("theirs")
    with pytest.raises(DioramaError, match=r"E_OUTPUT_UNWRITABLE.*not installed by Diorama"):
        install.download("text-to-image", tmp_path, Progress())
    assert theirs.read_text() == "theirs"
