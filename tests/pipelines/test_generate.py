"""From a request to an asset folder with models of both kinds: conditioned on text, and on an image."""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.gaussians.tracking import Effort
from backend.pipelines import dynamic_splats, generate, orbits, views
from backend.pipelines.model import ViewsModel
from backend.pipelines.preview import previews
from backend.shared import asset
from backend.shared.model_store import STARTER
from backend.shared.ply import GaussianCloud, read_ply
from backend.shared.progress import Progress
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest


@pytest.fixture(autouse=True)
def little_fitting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Splats are fitted and tracked in few steps: the views of tiny models show nothing anyway."""
    monkeypatch.setattr(views, "_MOST_STEPS", 1)
    monkeypatch.setattr(dynamic_splats, "track", partial(dynamic_splats.track, effort=Effort(2, 1, 1, 1, 1)))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch):
    """Puts a tiny model in place of those on disk."""
    monkeypatch.setattr(generate, "require", lambda name: STARTER)
    return lambda model: monkeypatch.setattr(generate, "loaded", lambda *_: model)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The asset folder, which whoever runs the job has made."""
    (tmp_path / "asset").mkdir()
    return tmp_path / "asset"


@pytest.fixture
def image(tmp_path: Path) -> str:
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[10:30, 12:28] = (200, 40, 40, 255)
    Image.fromarray(pixels).save(tmp_path / "object.png")
    return str(tmp_path / "object.png")


def test_text_and_image_each_become_an_asset(
    use, image: str, tiny_model: ViewsModel, tiny_image_model: ViewsModel, out: Path
) -> None:
    asked = {"prompt": "a red car"}, {"image": image, "model": "videomv-i2v"}
    for model, words in zip((tiny_model, tiny_image_model), asked, strict=True):
        use(model)
        request = GenerationRequest(**words, views=5, steps=2)
        made = asset.read_asset(generate.generate(request, out, Progress()))
        assert len(made.views) == 5
        assert made.request == request.to_dict()
        assert not list(made.directory.glob("*partial*"))


def test_floaters_do_not_get_into_the_asset(tiny_model: ViewsModel, out: Path) -> None:
    angle = np.linspace(0, 2 * np.pi, 300)
    means = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1).astype(np.float32) * 0.3
    opacities = np.full(300, 0.8, np.float32)
    means[7], opacities[40] = (1.5, 0, 0), 0.001  # far away; hardly to be seen
    quats, scales = np.tile(np.float32([1, 0, 0, 0]), (300, 1)), np.full((300, 3), 0.05, np.float32)
    still = GaussianCloud(means, quats, scales, opacities, np.zeros((300, 1, 3), np.float32))
    moved = dataclasses.replace(still, means=means + np.float32([0.1, 0, 0]))
    request = GenerationRequest("a red car", frames=2)
    rgba, cameras = torch.zeros(2, 2, 4, 8, 8), orbits.view_cameras(tiny_model.settings, 2)
    generate._written(request, tiny_model.settings, [still, moved], rgba, cameras, out, Progress())
    for index, cloud in enumerate((still, moved)):
        found = read_ply(out / "splats" / f"{index:04d}.ply").means
        np.testing.assert_allclose(found, np.delete(cloud.means, [7, 40], axis=0), atol=1e-6)


def test_fast_request_skips_the_deep_layers_in_some_steps(
    use, tiny_model: ViewsModel, tiny_moving_model: ViewsModel, out: Path
) -> None:
    skipped: list[bool] = []

    def look(_net: object, _args: object, options: dict) -> None:
        skipped.append(options["deep"] is not None and options["deep"].skips)

    for model, frames in ((tiny_model, None), (tiny_moving_model, 2)):
        use(model)
        handle = model.unet.register_forward_pre_hook(look, with_kwargs=True)
        try:
            for fast in (True, False):
                generate.generate(
                    GenerationRequest("a car", frames=frames, steps=8, fast=fast), out, Progress()
                )
        finally:
            handle.remove()
    fast_steps = [False, False, True, True, False, False, True, True]  # the fifth is a 3D-aware one
    assert skipped == 2 * (fast_steps + 8 * [False])


def test_previews_come_and_go(use, tiny_model: ViewsModel, out: Path) -> None:
    use(tiny_model)
    seen = []

    def listen(event: str, fields: dict) -> None:
        if event == "preview":
            seen.append((fields["views"], Image.open(fields["path"]).size))

    generate.generate(GenerationRequest("a car", steps=6), out, Progress(listen))
    assert len(seen) == 4
    assert seen[0] == (1, (32, 32))


@pytest.mark.parametrize(("view_s", "shown"), [(0.1, [1, 8, 8, 8]), (5.0, [1, 1, 1, 1])])
def test_previews_show_all_views_only_where_that_takes_a_small_part_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view_s: float, shown: list[int]
) -> None:
    now, seen = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def images(views: int) -> torch.Tensor:
        now[0] += views * view_s
        return torch.zeros(views, 1, 3, 4, 4)

    with previews(tmp_path, Progress(lambda event, fields: seen.append(fields["views"]))) as show:
        for step in range(1, 11):
            now[0] += 8
            show(step, 10, 8, images)
    assert seen == shown


def test_cancel_leaves_nothing(use, tiny_model: ViewsModel, out: Path) -> None:
    use(tiny_model)
    progress = Progress(lambda event, fields: progress.cancel() if fields.get("step") == 2 else None)
    with pytest.raises(DioramaError, match="cancelled"):
        generate.generate(GenerationRequest("a car", steps=6), out, progress)
    assert not list(out.iterdir())


def test_moving_object_becomes_an_asset_of_the_same_splats_in_every_frame(
    use, tiny_moving_model: ViewsModel, out: Path
) -> None:
    use(tiny_moving_model)
    stages = []
    progress = Progress(lambda event, fields: stages.append(fields["stage"]) if event == "stage" else None)
    request = GenerationRequest("a red car", frames=3, steps=2)
    made = asset.read_asset(generate.generate(request, out, progress))
    assert made.tracked
    assert [len(view) for view in made.views] == [3] * 4
    assert len(made.splats) == 3
    assert len({len(read_ply(path)) for path in made.splats}) == 1
    assert "Following the splats" in stages
    assert "not trained" in progress.warnings[0]  # the alignment of this network is zero


def test_more_frames_than_the_model_knows_are_refused(use, tiny_moving_model: ViewsModel, out: Path) -> None:
    use(tiny_moving_model)
    with pytest.raises(DioramaError, match="at most 4"):
        generate.generate(GenerationRequest("a red car", frames=5, steps=2), out, Progress())
    assert not list(out.iterdir())


def test_model_of_still_objects_refuses_frames() -> None:
    with pytest.raises(DioramaError, match="stand still") as refused:
        GenerationRequest("a red car", "videomv-t2v", frames=4)
    assert "vivid-zoo" in refused.value.hint
