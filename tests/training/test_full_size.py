"""Training from a model's folder and images on disk: what learns, what comes out, what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from backend.__main__ import main
from backend.cameras import orbit
from backend.evaluation.image_quality import vgg16_features
from backend.install import published_settings
from backend.models.alignment import bases_named_in, bases_sha256
from backend.models.videomv_unet import VideoMVImageUNet, VideoMVUNet
from backend.pipelines import schedules
from backend.pipelines.model import load
from backend.pipelines.settings import ModelSettings
from backend.pipelines.three_d_aware import SplatRendering
from backend.shared import manifests
from backend.shared.protocol import DioramaError
from backend.training import videomv, vivid_zoo
from backend.training.loop import LOSSES
from backend.training.objectives import Perceptual
from backend.training.text import make_text_encoder, make_tokenizer
from tests import tiny

CPU = torch.device("cpu")
VIEWS, FRAMES, SIZE = 4, 2, 16
UNET = "unet/diffusion_pytorch_model.safetensors"
VIDEO_UNET = tiny.video_unet_sizes(8)
SETTINGS = ModelSettings(
    schedule=schedules.VIDEOMV_TEXT,
    num_views=VIEWS,
    size_px=SIZE,
    elevation_deg=15.0,
    radius=2.0,
    fov_deg=39.6,
    steps=2,
    guidance=2.0,
    three_d_aware=(),
    input_views=2,
    rendering=SplatRendering(39.6, 2 * SIZE, 0.5, "display"),
    prompt_suffix=", 3d asset",
    negative_prompt="ugly",
)


def write_model(folder: Path, unet: Any, settings: ModelSettings = SETTINGS, **more: Any) -> Path:
    """The smallest model of its kind, with random weights."""
    tokenizer = make_tokenizer(("a", "dot", "ugly", "3d", "asset"))
    folder.mkdir()
    settings.write(folder)
    tokenizer.save_pretrained(folder / "tokenizer")
    networks = {
        "unet": unet,
        "text_encoder": make_text_encoder(tokenizer, 8),
        "autoencoder": tiny.autoencoder(1),
        "reconstructor": tiny.reconstructor(SIZE, 8),
        **more,
    }
    for part, network in networks.items():
        network.save_pretrained(folder / part)
    return folder


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return write_model(tmp_path_factory.mktemp("text") / "model", VideoMVUNet(**VIDEO_UNET))


@pytest.fixture(scope="module")
def moving_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    unet = tiny.moving_unet(
        block_out_channels=(8, 8), num_attention_heads=(1, 1), motion_heads=1, cross_attention_dim=8,
        norm_num_groups=4,
    )  # fmt: skip
    settings = dataclasses.replace(SETTINGS, schedule=schedules.VIVID_ZOO, num_frames=FRAMES)
    return write_model(tmp_path_factory.mktemp("moving") / "model", unet, settings)


def write_camera(path: Path, camera: Tensor) -> None:
    x, y, z, origin = camera[:3].T.tolist()
    fov = math.radians(39.6)
    opencv = {"x": x, "y": [-v for v in y], "z": [-v for v in z], "origin": origin}
    path.write_text(json.dumps({**opencv, "x_fov": fov, "y_fov": fov}))


def write_dot(path: Path, where: int) -> None:
    rgba = np.zeros((SIZE, SIZE, 4), np.uint8)
    rgba[6:10, where : where + 4] = (200, 30, 60, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgba).save(path)


def write_orbit(root: Path, name: str = "a/b", views: int = VIEWS, caption: str = "a dot") -> None:
    for view, camera in enumerate(orbit(views, 15.0, 2.0)):
        place = root / name / f"campos_512_v4/{view:05d}/{view:05d}.png"
        write_dot(place, 2 + view)
        write_camera(place.with_suffix(".json"), camera)
    (root / "text_captions_cap3d.json").write_text(json.dumps({name: caption}))


def write_clip(root: Path, frames: int, step: int, views: int = 2 * VIEWS) -> None:
    folder = root / "a/b/video_16"
    for view, camera in enumerate(orbit(views, 20.0, 2.4)):
        for frame in range(frames):
            write_dot(folder / f"{view:05d}/{frame:05d}.png", 2 + frame)
        write_camera(folder / f"{view:05d}/camera.json", camera)
    clip = {"background": 0.3, "frames": [1 + step * i for i in range(frames)], "step": step, "fps": 24}
    (folder / "clip.json").write_text(json.dumps(clip))
    (root / "text_captions_cap3d.json").write_text('{"a/b": "a dot"}')


@pytest.fixture
def orbits(tmp_path: Path) -> Path:
    write_orbit(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    write_clip(tmp_path / "data", frames=5, step=3)
    return tmp_path / "data"


def arguments(model: Path, data: Path, tmp_path: Path, *more: str, name: str = "out") -> list[str]:
    given = ["--model", str(model), "--data", str(data), "--work", str(tmp_path / f"work-{name}")]
    given += ["--out", str(tmp_path / name), "--steps", "4", "--batch", "1", "--keep-every", "2"]
    return [*given, "--workers", "0", *more]


def weights(model: Path, part: str) -> dict[str, Tensor]:
    return load_file(model / part / "diffusion_pytorch_model.safetensors")


def checksums(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def losses(work: Path) -> list[float]:
    rows = [json.loads(line) for line in (work / LOSSES).read_text().splitlines()]
    return [value for row in rows for value in (row.get("loss"), row.get("measured")) if value is not None]


def interrupt(monkeypatch: pytest.MonkeyPatch, module: Any, function: str, after: int) -> None:
    """The third step of a run is never begun."""
    real, calls = getattr(module, function), []

    def draws(*given: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            raise DioramaError("E_CANCELLED", "stopped")
        return real(*given)

    monkeypatch.setattr(module, function, draws)


def test_views_are_learnt_by_the_denoiser_alone_and_an_interrupted_run_ends_the_same(
    text_model: Path, orbits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checksums(text_model)
    stage = ("--stage", "views", "--learning-rate", "1e-3")
    assert main(["train", "videomv", *arguments(text_model, orbits, tmp_path, *stage)]) == 0
    assert checksums(text_model) == before
    after = checksums(tmp_path / "out")
    changed = {name for name in before if before[name] != after[name]}
    assert {name for name in changed if name.endswith(".safetensors")} == {UNET}
    assert after.keys() - before.keys() == {"training.json"}
    trained, begun = weights(tmp_path / "out", "unet"), weights(text_model, "unet")
    moved = {name for name in begun if not torch.equal(trained[name], begun[name].half())}
    assert {"camera_embedding.2.weight", "conv_in.weight"} <= moved
    assert all(tensor.dtype == torch.float16 for tensor in trained.values())
    assert all(map(math.isfinite, losses(tmp_path / "work-out/views")))
    assert (tmp_path / "work-out/views/samples-000004.png").is_file()
    made = json.loads((tmp_path / "out/training.json").read_text())
    assert made["data"]["objects"] == 1 and made["plan"]["steps"] == 4 and made["seed"] == 0
    assert made["base"][UNET] == before[UNET]
    assert load(tmp_path / "out").settings == SETTINGS

    options = arguments(text_model, orbits, tmp_path, *stage, name="again")
    with monkeypatch.context() as patch:
        interrupt(patch, videomv, "views_batch", after=3)
        assert main(["train", "videomv", *options]) == 130
    assert not (tmp_path / "again").exists()
    assert main(["train", "videomv", *options, "--workers", "1"]) == 0
    assert checksums(tmp_path / "again") == after


def test_the_reconstructor_learns_from_half_denoised_views_of_a_frozen_denoiser(
    text_model: Path, orbits: Path, tmp_path: Path
) -> None:
    model = tmp_path / "installed"
    shutil.copytree(text_model, model)
    manifests.seal(model, "videomv-t2v")
    options = arguments(model, orbits, tmp_path, "--stage", "reconstructor", "--learning-rate", "1e-3")
    assert main(["train", "videomv", *options, "--steps", "2"]) == 0
    before, after = checksums(model), checksums(tmp_path / "out")
    changed = {name for name in before if before[name] != after[name] and name.endswith(".safetensors")}
    assert changed == {"reconstructor/diffusion_pytorch_model.safetensors"}
    assert all(map(math.isfinite, losses(tmp_path / "work-out/reconstructor")))
    assert load(tmp_path / "out").settings == SETTINGS
    listed = manifests.read_manifest(tmp_path / "out")["files"]  # an installed model, as what it began as
    assert {name: entry["sha256"] for name, entry in listed.items()} == {
        name: checksum for name, checksum in after.items() if name != manifests.MANIFEST
    }


def test_an_image_conditioned_model_learns_from_any_side(orbits: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = dataclasses.replace(SETTINGS, schedule=schedules.VIDEOMV_IMAGE, prompt_suffix="")
    model = write_model(
        tmp_path / "model",
        VideoMVImageUNet(**VIDEO_UNET, image_embedding_dim=8),
        settings,
        image_encoder=tiny.image_encoder(8, 8, SIZE),
    )
    (orbits / "text_captions_cap3d.json").unlink()  # it needs none
    options = arguments(model, orbits, tmp_path, "--stage", "views", "--steps", "2", "--batch", "2")
    assert main(["train", "videomv", *options]) == 0
    assert all(map(math.isfinite, losses(tmp_path / "work-out/views")))
    moved = weights(tmp_path / "out", "unet")["image_latents_proj_in.0.weight"]
    assert not torch.equal(moved, weights(model, "unet")["image_latents_proj_in.0.weight"].half())


def test_only_the_alignment_of_vivid_zoo_changes_and_an_interrupted_run_ends_the_same(
    moving_model: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checksums(moving_model)
    options = arguments(moving_model, clips, tmp_path, "--learning-rate", "1e-2")
    assert main(["train", "vivid-zoo", *options]) == 0
    assert checksums(moving_model) == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "alignment.safetensors",
        "training.json",
    ]
    network: Any = load(moving_model).unet
    assert bases_named_in(tmp_path / "out/alignment.safetensors") == bases_sha256(network)
    trained = load_file(tmp_path / "out/alignment.safetensors")
    assert trained.keys() == network.alignment().keys()
    assert all(bool(p.any()) for name, p in trained.items() if ".align_out." in name)
    assert all(map(math.isfinite, losses(tmp_path / "work-out/vivid-zoo")))
    assert (tmp_path / "work-out/vivid-zoo/samples-000002.png").is_file()

    again = arguments(moving_model, clips, tmp_path, "--learning-rate", "1e-2", name="again")
    with monkeypatch.context() as patch:
        interrupt(patch, vivid_zoo, "clips_batch", after=4)
        assert main(["train", "vivid-zoo", *again]) == 130
    assert main(["train", "vivid-zoo", *again]) == 0
    assert checksums(tmp_path / "again") == checksums(tmp_path / "out")


def test_samples_of_clips_are_evenly_spread_views_and_every_third_frame(
    moving_model: Path, tmp_path: Path
) -> None:
    write_clip(tmp_path, frames=6, step=1)
    data, _ = vivid_zoo.read_clips(tmp_path, load(moving_model))
    cameras, seen, starts, dropped = orbit(2 * VIEWS, 20.0, 2.4), set(), set(), 0
    for seed in range(30):
        batch = vivid_zoo.clips_batch(data, 1, torch.Generator().manual_seed(seed))
        assert batch["rgba"].shape == (1, VIEWS, FRAMES, 4, SIZE, SIZE)
        first = int((cameras - batch["cameras"][0, :1]).abs().amax((1, 2)).argmin())
        expected = cameras[[(first + 2 * i) % (2 * VIEWS) for i in range(VIEWS)]]
        torch.testing.assert_close(batch["cameras"][0], expected)
        where = (
            batch["rgba"][0, :, :, 3].amax(-2).int().argmax(-1) - 2
        )  # [V, F] the dot's column is its frame
        assert (where == where[:1]).all() and (where[0].diff() == 3).all()
        dropped += torch.equal(batch["tokens"][0], data.no_tokens)
        seen.add(first)
        starts.add(int(where[0, 0]))
    assert len(seen) > 4 and starts == {0, 1, 2} and 0 < dropped < 10


@pytest.mark.parametrize("name", published_settings.SETTINGS)
def test_the_settings_of_every_published_model_are_what_training_reads(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(published_settings.SETTINGS[name]))
    settings = ModelSettings.read(tmp_path)
    assert settings.num_frames == (16 if name in ("vivid-zoo", "animate3d") else 1)


def refused(*options: str) -> DioramaError:
    command, *rest = options
    module = videomv if command == "videomv" else vivid_zoo
    with pytest.raises(DioramaError) as caught:
        module.main(rest)
    return caught.value


def test_data_that_cannot_teach_is_refused_in_words(
    text_model: Path, moving_model: Path, orbits: Path, tmp_path: Path
) -> None:
    still = refused("vivid-zoo", *arguments(moving_model, orbits, tmp_path))
    assert still.code == "E_DATA" and "moving objects" in still.message and "vividzoo" in still.hint
    nowhere = refused("vivid-zoo", *arguments(moving_model, tmp_path / "nowhere", tmp_path))
    assert nowhere.code == "E_DATA" and "no data folder" in nowhere.message
    for number, (frames, step, views, words) in enumerate(
        [(1, 3, 8, "1 frames, and 2 are needed"), (9, 2, 8, "every 2th frame"), (9, 3, 6, "6 views")]
    ):
        write_clip(tmp_path / f"clips-{number}", frames, step, views)
        error = refused("vivid-zoo", *arguments(moving_model, tmp_path / f"clips-{number}", tmp_path))
        assert error.code == "E_DATA" and words in error.message, error
    write_orbit(tmp_path / "silent", caption="")
    silent = refused("videomv", *arguments(text_model, tmp_path / "silent", tmp_path, "--stage", "views"))
    assert silent.code == "E_DATA" and "no caption" in silent.message
    write_orbit(tmp_path / "few", views=2)
    few = refused("videomv", *arguments(text_model, tmp_path / "few", tmp_path, "--stage", "views"))
    assert few.code == "E_DATA" and "4 views" in few.message and "00002.png is missing" in few.detail


def test_requests_that_make_no_sense_are_refused_before_anything_is_done(
    text_model: Path, moving_model: Path, orbits: Path, tmp_path: Path
) -> None:
    stage = ("--stage", "views")
    wrong = refused("videomv", *arguments(moving_model, orbits, tmp_path, *stage))
    assert wrong.code == "E_REQUEST" and "MultiViewMotionUNet" in wrong.message
    wrong = refused("vivid-zoo", *arguments(text_model, orbits, tmp_path))
    assert wrong.code == "E_REQUEST" and "alignment" in wrong.message
    missing = refused("videomv", *arguments(tmp_path / "nothing", orbits, tmp_path, *stage))
    assert missing.code == "E_WEIGHTS_MISSING"
    odd = refused("videomv", *arguments(text_model, orbits, tmp_path, *stage, "--at-once", "3"))
    assert odd.code == "E_REQUEST" and "multiple of 3" in odd.hint
    inside = refused("videomv", *arguments(text_model, orbits, tmp_path, *stage, "--out", str(text_model)))
    assert inside.code == "E_REQUEST" and "own folder" in inside.message
    within = refused(
        "videomv", *arguments(text_model, orbits, tmp_path, *stage, "--work", str(tmp_path / "out"))
    )
    assert within.code == "E_REQUEST" and "is replaced" in within.message and not (tmp_path / "out").exists()
    for other in (("--stage", "reconstructor", "--prior", "x"), ("--stage", "views", "--vgg16", "x")):
        unfit = refused("videomv", *arguments(text_model, orbits, tmp_path, *other))
        assert unfit.code == "E_REQUEST" and "--prior is for" in unfit.message
    full = refused("videomv", *arguments(text_model, orbits, tmp_path, *stage, "--out", str(orbits)))
    assert full.code == "E_OUTPUT_UNWRITABLE" and "not empty" in full.message


def test_a_work_folder_of_another_run_is_not_gone_on_from(
    text_model: Path, orbits: Path, tmp_path: Path
) -> None:
    options = arguments(text_model, orbits, tmp_path, "--stage", "reconstructor", "--steps", "1")
    videomv.main(options)
    again = refused("videomv", *options, "--learning-rate", "0.5")
    assert again.code == "E_REQUEST" and "other plan" in again.message


def test_a_video_model_is_a_beginning_without_cameras(text_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    prior = VideoMVUNet(**VIDEO_UNET)
    known = {name: p for name, p in prior.state_dict().items() if "camera" not in name}
    save_file(known, tmp_path / "prior.safetensors")
    unet = VideoMVUNet.from_pretrained(text_model / "unet")
    torch.nn.init.ones_(unet.camera_embedding[2].weight)
    videomv.begin_from_prior(unet, tmp_path / "prior.safetensors")
    assert all(torch.equal(unet.state_dict()[name], p) for name, p in known.items())
    assert not unet.camera_embedding[2].weight.any() and unet.camera_embedding[0].weight.any()
    del known["conv_in.weight"]
    save_file(known, tmp_path / "other.safetensors")
    with pytest.raises(DioramaError, match=r"1 missing: conv_in\.weight"):
        videomv.begin_from_prior(unet, tmp_path / "other.safetensors")


def test_the_perceptual_distance_is_none_for_equal_images_and_teaches_for_others(tmp_path: Path) -> None:
    network = {f"features.{name}": value for name, value in vgg16_features().state_dict().items()}
    save_file(network, tmp_path / "vgg16.safetensors")
    distance = Perceptual(tmp_path / "vgg16.safetensors")
    one = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert distance(one, one.detach()).tolist() == [0, 0]
    distance(one, 1 - one.detach()).sum().backward()
    assert one.grad is not None and one.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in distance.parameters())
