"""FVD: its distance is the known one, its network is the whole one, and what it needs is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from torch import Tensor

from backend.__main__ import main
from backend.evaluation import assets, consistency, fvd
from backend.evaluation.clip_score import clip_score
from backend.evaluation.images import images_of
from backend.shared.protocol import DioramaError
from tests.evaluation.measured import blob, make_asset, make_clip, make_videomae


def videos(count: int, frames: int = 4, seed: int = 0) -> Tensor:  # [N, F, 3, 32, 32]
    """Discs of any colour that move to the right, each as fast as it likes."""
    dice = torch.Generator().manual_seed(seed)
    color, start, speed = (torch.rand(count, n, generator=dice) for n in (3, 2, 1))
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    along = 8 + 8 * start[:, :1] + 2 * speed * torch.arange(frames)
    far = (x - along[..., None, None]) ** 2 + (y - 8 - 16 * start[:, 1].view(-1, 1, 1, 1)) ** 2
    return torch.where(far[:, :, None] < 30, color[:, None, :, None, None], 0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("metrics")
    make_videomae(path / "videomae")
    make_clip(path / "clip")
    return path


def test_distance_is_the_published_formula_and_none_from_itself():
    dice = torch.Generator().manual_seed(0)
    one = torch.randn(50, 6, generator=dice)
    other = torch.randn(40, 6, generator=dice) @ torch.randn(6, 6, generator=dice) + 0.5
    means, covariances = (
        [function(x.double().numpy(), axis=0) if function is np.mean else np.cov(x.double().numpy().T)
         for x in (one, other)]
        for function in (np.mean, np.cov)
    )  # fmt: skip
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(means[0] - means[1]).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert fvd.frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)
    assert fvd.frechet_distance(other, one) == pytest.approx(expected, rel=1e-6)
    assert fvd.frechet_distance(one, one) < 1e-6 * expected
    assert fvd.frechet_distance(one, one + 2) == pytest.approx(6 * 4)


def test_more_noise_is_farther(folder):
    network = fvd.video_network(folder / "videomae")
    real, generated = videos(40), videos(40, seed=1)
    noise = torch.randn(generated.shape, generator=torch.Generator().manual_seed(2))
    seen = fvd.seen_by(network, real)
    found = [
        fvd.frechet_distance(fvd.seen_by(network, (generated + a * noise).clamp(0, 1)), seen)
        for a in (0, 0.05, 0.1, 0.2)
    ]
    assert 0 < found[0] < found[1] < found[2] < found[3]


@pytest.mark.parametrize("pooling", [True, False])
def test_network_gives_what_its_head_would_name_the_video_by(tmp_path, pooling):
    from transformers import VideoMAEForVideoClassification

    make_videomae(tmp_path, use_mean_pooling=pooling)
    whole = VideoMAEForVideoClassification.from_pretrained(tmp_path).eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    clips = videos(3)
    with torch.no_grad():
        expected = whole(pixel_values=(clips - mean) / std).logits
        seen = fvd.seen_by(fvd.video_network(tmp_path), clips)
        assert seen.shape == (3, 24)
        torch.testing.assert_close(whole.classifier(seen), expected, rtol=1e-4, atol=1e-4)


def test_videos_of_other_lengths_and_sizes_are_fitted_evenly(folder):
    network = fvd.video_network(folder / "videomae")
    clips = videos(2)
    expected = fvd.seen_by(network, clips)
    torch.testing.assert_close(fvd.seen_by(network, clips.repeat_interleave(3, dim=1)), expected)
    halves = fvd.seen_by(network, clips[:, ::2])
    torch.testing.assert_close(halves, fvd.seen_by(network, clips[:, [0, 0, 2, 2]]))
    large = clips.repeat_interleave(4, -1).repeat_interleave(4, -2)
    assert (fvd.seen_by(network, large) - expected).norm() < 0.2 * expected.norm()


def test_a_network_without_its_head_or_its_file_is_refused(tmp_path):
    from transformers import VideoMAEForVideoClassification

    make_videomae(tmp_path / "whole")
    VideoMAEForVideoClassification.from_pretrained(tmp_path / "whole").videomae.save_pretrained(
        tmp_path / "pretrained"
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/config.json").write_bytes((tmp_path / "whole/config.json").read_bytes())
    for name in ("pretrained", "empty"):
        with pytest.raises(DioramaError) as error:
            fvd.video_network(tmp_path / name)
        assert error.value.code == "E_WEIGHTS_CORRUPT" and name in error.value.message
        assert "finetuned" in error.value.hint


def test_too_few_videos_have_no_distance_and_few_have_a_caveat():
    few, many = torch.rand(5, 8), torch.rand(20, 8)
    with pytest.raises(ValueError, match="1 generated and 20 real videos; each must be two or more"):
        fvd.frechet_distance(few[:1], many)
    assert fvd.caveat(few, many).startswith("5 videos for 8 features: too high")
    assert fvd.caveat(many, many) == ""


@pytest.fixture
def moving(tmp_path, monkeypatch):
    """Two assets that move, each with two views of three frames; and what evaluating them writes."""
    monkeypatch.delenv("DIORAMA_MODELS", raising=False)
    monkeypatch.setattr(consistency.self_consistency, "__defaults__", (2, 50))
    monkeypatch.setattr(assets, "flow_rmse", lambda *arguments, **options: None)  # slow, and tested elsewhere
    for name, lift in (("a", 0.02), ("b", -0.03)):
        make_asset(tmp_path / f"made/{name}", [blob(shift=lift * i) for i in range(3)], count=2)

    def evaluate(*options: str, names: tuple[str, ...] = ("a", "b")) -> tuple[int, dict]:
        folders = [str(tmp_path / "made" / name) for name in names]
        code = main(["evaluate", *folders, *options, "--json", str(tmp_path / "out.json")])
        return code, json.loads((tmp_path / "out.json").read_text())

    return evaluate


def test_assets_are_as_near_as_they_are_to_themselves_and_clip_hears_every_frame(moving, tmp_path, folder):
    code, found = moving("--metric-weights", str(folder), "--reference", str(tmp_path / "made"))
    assert code == 0
    views, splats = (found["together"][f"FVD (VideoMAE), {name}"] for name in ("views", "splats"))
    assert views["value"] < 1e-3 and splats["value"] < 0.1  # PNG rounds
    assert views["note"].startswith("4 videos for 24 features")
    images = images_of(assets.read_asset(tmp_path / "made/a"))
    assert images.views.shape[:2] == (2, 3)
    frames = [
        clip_score(images.views[view, frame][None], "a painted blob", folder / "clip")
        for view in range(2)
        for frame in range(3)
    ]
    score = found["assets"][str(tmp_path / "made/a")]["CLIP score, views"]["value"]
    assert score == pytest.approx(sum(frames) / 6, rel=1e-3)


def test_clips_of_render_dataset_are_a_reference(moving, tmp_path, folder):
    place = tmp_path / "data/a/b/video_16"
    camera = {"x": [0, 1, 0], "y": [0, 0, -1], "z": [-1, 0, 0], "origin": [2, 0, 0],
              "x_fov": 0.7, "y_fov": 0.7}  # fmt: skip
    for view in range(2):
        (place / f"{view:05d}").mkdir(parents=True)
        (place / f"{view:05d}/camera.json").write_text(json.dumps(camera))
        for frame in range(3):
            rgba = np.zeros((16, 16, 4), np.uint8)
            rgba[4:12, 4 + frame : 12 + frame] = (250, 20, 20 * view, 255)
            Image.fromarray(rgba).save(place / f"{view:05d}/{frame:05d}.png")
    done = {"background": 0.3, "frames": [1, 2, 3], "step": 1, "fps": 24}
    (place / "clip.json").write_text(json.dumps(done))
    (place / "done.json").write_text(json.dumps({"status": "rendered"}))
    (videos_of_it,) = fvd.videos_in(tmp_path / "data", 32)
    assert videos_of_it.shape == (2, 3, 3, 32, 32)
    assert videos_of_it[0, 0, :, 0, 0].tolist() == [0.5] * 3  # not the grey that it was meant to be before
    code, found = moving("--metric-weights", str(folder), "--reference", str(tmp_path / "data"))
    assert code == 0 and found["together"]["FVD (VideoMAE), views"]["value"] > 1


def test_what_is_missing_is_said_and_the_rest_is_measured(moving, tmp_path, folder, capsys):
    made = str(tmp_path / "made")
    _, found = moving("--reference", made)
    line = found["together"]["FVD (VideoMAE), views"]
    assert line["value"] is None and "videomae/config.json" in line["note"]
    assert moving()[1]["together"] == {}

    make_asset(tmp_path / "made/still", [blob()], count=2)
    weights = ("--metric-weights", str(folder))
    _, found = moving(*weights, "--reference", made, names=("still",))
    assert found["together"]["FVD (VideoMAE), views"]["note"] == "none of the assets moves"

    (tmp_path / "nothing").mkdir()
    code, found = moving(*weights, "--reference", str(tmp_path / "nothing"))
    assert code == 1 and found["assets"] and not found["together"]
    assert "E_DATA" in capsys.readouterr().err
