"""Splats fitted to a capture look like it from views that were held out, within their budget."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from backend import __main__ as command_line
from backend import job
from backend.gaussians import density, fitting
from backend.gaussians.fitting import SplatParameters
from backend.shared import asset
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from backend.shared.reconstruction import ReconstructionRequest, read_request
from tests.gaussians.capture_folder import edit, poses, write_capture
from tests.gaussians.painted_blob import FOV_DEG, painted_blob


def test_command_fits_a_capture_and_keeps_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture = write_capture(tmp_path / "blob")
    out = tmp_path / "asset"
    arguments = ["reconstruct", str(capture), "--out", str(out), "--splats", "2000", "--iterations", "250"]
    assert command_line.main(arguments) == 0
    assert capsys.readouterr().out.strip() == str(out)
    manifest = json.loads((out / "asset.json").read_text())
    assert manifest["figures"]["held_out"] == 3
    assert manifest["figures"]["psnr"] > 26 and manifest["figures"]["object_psnr"] > 19
    made = asset.read_asset(out)
    assert (made.prompt, made.model, made.blending, made.front) == ("blob", "capture", "linear", "-Y")
    cloud = asset.read_ply(made.splats[0])
    assert 1500 < len(cloud) <= 2000 and cloud.sh_degree == 1
    assert np.abs(cloud.means).max() < 1  # in the capture's own world
    assert len(made.views) == 21 and (made.width, made.height) == (64, 64)
    # our own assets are captures too, in the same world
    again = ["reconstruct", str(out), "--out", str(tmp_path / "2"), "--iterations", "10", "--splats", "300"]
    assert command_line.main(again) == 0


def test_frames_begin_where_the_one_before_ended(tmp_path: Path) -> None:
    capture = write_capture(tmp_path / "blob", 12)

    def two_moments(data: dict) -> None:
        later = [{**frame, "time": 1} for frame in data["frames"]]
        data.update(frames=[{**frame, "time": 0} for frame in data["frames"]] + later, fps=12.0)

    edit(capture, two_moments)
    request = ReconstructionRequest(str(capture), splats=500, iterations=50, resolution=32)
    job.run(request, tmp_path / "asset", Progress())
    made = asset.read_asset(tmp_path / "asset")
    assert (len(made.splats), made.fps, made.tracked) == (2, 12.0, False)
    job.run(dataclasses.replace(request, iterations=10), tmp_path / "short", Progress())
    worst, short = (asset.read_manifest(tmp_path / name)["figures"]["psnr"] for name in ("asset", "short"))
    assert worst > short + 1  # the second frame had ten steps of its own


def test_cancel_is_obeyed_within_a_step_and_leaves_nothing(tmp_path: Path) -> None:
    capture = write_capture(tmp_path / "blob", 12)
    steps = []

    def emit(event: str, fields: dict) -> None:
        if event == "progress":
            steps.append(fields["step"])
            if fields["step"] == 3:
                progress.cancel()

    progress = Progress(emit)
    with pytest.raises(DioramaError, match="E_CANCELLED"):
        job.run(ReconstructionRequest(str(capture), splats=300), tmp_path / "asset", progress)
    assert steps[-1] == 3 and not (tmp_path / "asset").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"splats": 5}, "splats is 5"),
        ({"sh_degree": 4}, "sh_degree is 4"),
        ({"capture": ""}, "expected the path"),
        ({"colour": "red"}, "unknown settings: colour"),
    ],
)
def test_requests_say_what_is_wrong_with_them(settings: dict, words: str) -> None:
    with pytest.raises(DioramaError, match=words):
        read_request({"capture": "somewhere", **settings})


def test_request_survives_json() -> None:
    request = ReconstructionRequest("a/vase", splats=1234)
    assert read_request(json.loads(json.dumps(request.to_dict()))) == request
    assert request.prompt == "vase"


def _look(splats: SplatParameters) -> torch.Tensor:
    black = torch.zeros(3, 3)
    return fitting.render(splats, poses(3), FOV_DEG, 64, 64, black, "display").detach()


def _with_optimizer(splats: SplatParameters) -> tuple[SplatParameters, torch.optim.Adam]:
    leaves = splats.map(lambda values: values.detach().clone().requires_grad_())
    optimizer, _ = fitting.optimizer_of(leaves, 0.01, 10)
    sum(values.sum() for values in vars(leaves).values()).backward()
    optimizer.step()
    return leaves, optimizer


def test_added_splats_change_nothing_that_is_seen() -> None:
    splats, optimizer = _with_optimizer(painted_blob(300).map(lambda values: values.detach()))
    before = _look(splats)
    more = density.grown(splats, optimizer, 450, torch.Generator().manual_seed(0))
    assert len(more.means) == 450
    assert (_look(more) - before).abs().mean() < 0.01
    more.means.sum().backward()
    optimizer.step()  # which knows the new ones
    assert {len(group["params"][0]) for group in optimizer.param_groups} == {450}


def test_faded_splats_are_reborn_in_others() -> None:
    blob = painted_blob(300).map(lambda values: values.detach())
    faded = blob.logits.clone()
    faded[:50] = -8.0
    splats, optimizer = _with_optimizer(dataclasses.replace(blob, logits=faded))
    before = _look(splats)
    density.relocate(splats, optimizer, torch.Generator().manual_seed(0))
    assert len(splats.means) == 300 and (splats.logits.sigmoid() > density.DEAD).all()
    moved = (splats.means[:50] - blob.means[:50]).norm(dim=-1)
    assert moved.median() > 0.1
    assert (_look(splats) - before).abs().mean() < 0.01
    assert (optimizer.state[splats.means]["exp_avg"][:50] == 0).all()


def test_only_faint_splats_are_stirred() -> None:
    blob = painted_blob(200).map(lambda values: values.detach().clone())
    blob.logits[:100] = -8.0
    before = blob.means.clone()
    density.stir(blob, 80.0, torch.Generator().manual_seed(0))
    moved = (blob.means - before).norm(dim=-1)
    assert moved[:100].median() > 1e-3 and moved[100:].max() < 1e-6
