"""Training objects are read with the right cameras, and damaged ones are listed instead of used."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from backend.cameras import orbit, project
from backend.shared.protocol import DioramaError
from backend.training import objaverse

ROOT = Path(__file__).parents[2]
VIEWS, SIZE = 4, 32


@pytest.fixture(scope="module")
def viewpoints() -> ModuleType:
    """The writer's own module; it needs no Blender."""
    path = ROOT / "blender_addon" / "dataset" / "viewpoints.py"
    spec = importlib.util.spec_from_file_location("viewpoints", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["viewpoints"] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def image(point: np.ndarray, camera: torch.Tensor, color: tuple[int, int, int], path: Path) -> None:
    """A 3×3 dot where a point is seen, on nothing."""
    where, _ = project(torch.tensor([point.tolist()]), camera, 39.6, SIZE, SIZE)
    column, row = (SIZE / 2 * (where[0] + 1)).int().tolist()
    rgba = np.zeros((SIZE, SIZE, 4), np.uint8)
    rgba[row - 1 : row + 2, column - 1 : column + 2] = (*color, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgba).save(path)


@pytest.fixture
def root(tmp_path, viewpoints) -> Path:
    """One object, `a/b`: a dot that every view sees elsewhere and in another colour, and its caption."""
    for view, camera in enumerate(orbit(VIEWS, 15.0, 2.0)):
        path = tmp_path / f"a/b/campos_512_v4/{view:05d}/{view:05d}.png"
        image(np.array([0.3, 0.1, 0.2]), camera, (60 * view, 200, 30), path)
        path.with_suffix(".json").write_text(json.dumps(viewpoints.camera_json(camera.numpy())))
    (tmp_path / "text_captions_cap3d.json").write_text('{"a/b": "a dot"}')
    return tmp_path


def test_original_layout_gives_blenders_cameras_images_and_captions(root):
    found = objaverse.scan(root, views=VIEWS)
    assert "1 objects" in found.report() and not found.skipped
    views = objaverse.load(found.objects[0], SIZE)
    torch.testing.assert_close(views.cameras, orbit(VIEWS, 15.0, 2.0))
    assert views.fov_deg == pytest.approx(39.6) and views.caption == "a dot"
    assert views.rgba.shape == (VIEWS, 1, 4, SIZE, SIZE) and views.masks.sum() == 9 * VIEWS
    grey = views.over(0.25)
    assert grey[0, 0, :, 0, 0].tolist() == [0.25] * 3
    for view in range(VIEWS):
        inside = views.masks[view, 0, 0] == 1
        assert torch.allclose(grey[view, 0, :, inside], torch.tensor([[60 * view], [200], [30]]) / 255)


def test_an_opencv_camera_file_becomes_columns_x_minus_y_minus_z():
    # at +X, one up: x = +Y (right), y = -Z (down), z = -X (ahead)
    data = {"x": [0, 1, 0], "y": [0, 0, -1], "z": [-1, 0, 0], "origin": [2, 0, 0]}
    torch.testing.assert_close(objaverse.camera_from_json(data), orbit(1, 0.0, 2.0)[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y": [0, 0, 1], "z": [1, 0, 0]}, "not OpenCV's"),  # Blender's axes
        ({"y": [0, 0, 1]}, "not OpenCV's"),  # a mirrored camera
        ({"x": [0, 2, 0]}, "perpendicular"),
        ({"origin": [math.nan, 0, 0]}, "perpendicular"),
    ],
)
def test_cameras_with_other_axes_are_refused(change, words):
    data = {"x": [0, 1, 0], "y": [0, 0, -1], "z": [-1, 0, 0], "origin": [2, 0, 0]}
    with pytest.raises(ValueError, match=words):
        objaverse.camera_from_json(data | change)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "00002/00002.png").unlink(), "00002.png is missing"),
        (
            lambda folder: (folder / "00001/00001.png").write_bytes(
                (folder / "00001/00001.png").read_bytes()[:-20]
            ),
            "truncated",
        ),
        (lambda folder: (folder / "00003/00003.json").write_text('{"x": ['), "00003.json is damaged"),
        (lambda folder: (folder / "00003/00003.json").write_text('{"x": [1, 0, 0]}'), "no 'y'"),
        (
            lambda folder: (folder / "done.json").write_text('{"status": "dropped", "reason": "static"}'),
            "static",
        ),
    ],
)
def test_damaged_and_dropped_objects_are_listed_and_skipped(root, damage, words):
    whole, broken = root / "a/b", root / "a/broken"
    shutil.copytree(whole, broken)
    damage(broken / "campos_512_v4")
    found = objaverse.scan(root, views=VIEWS)
    assert [item.name for item in found.objects] == ["a/b"]
    assert words in found.skipped["a/broken"] and words in found.report()


def test_a_root_without_anything_usable_is_an_error(root, tmp_path):
    with pytest.raises(DioramaError, match="no data folder"):
        objaverse.scan(tmp_path / "nowhere")
    with pytest.raises(DioramaError, match="24 views") as error:
        objaverse.scan(root)
    assert error.value.code == "E_DATA" and "00004.png is missing" in error.value.detail


def test_a_image_without_alpha_is_named(root):
    path = root / "a/b/campos_512_v4/00001/00001.png"
    Image.open(path).convert("RGB").save(path)
    with pytest.raises(DioramaError, match=r"00001\.png.*alpha"):
        objaverse.load(objaverse.scan(root, views=VIEWS).objects[0], SIZE)


@pytest.mark.parametrize("first", range(VIEWS))
def test_starting_at_another_view_moves_images_and_cameras_together(root, first):
    views = objaverse.load(objaverse.scan(root, views=VIEWS).objects[0], SIZE)
    rolled = views.starting_at(first)
    torch.testing.assert_close(rolled.cameras, views.cameras, atol=1e-6, rtol=0)  # the orbit is an even one
    assert rolled.rgba[0].equal(views.rgba[first]) and rolled.rgba[-1].equal(views.rgba[first - 1])
    # the one dot, turned with its object, is where each camera now sees it
    turn = -2 * math.pi * first / VIEWS
    x, y = 0.3 * math.cos(turn) - 0.1 * math.sin(turn), 0.3 * math.sin(turn) + 0.1 * math.cos(turn)
    for view in range(VIEWS):
        where, _ = project(torch.tensor([[x, y, 0.2]]), rolled.cameras[view], 39.6, SIZE, SIZE)
        column, row = (SIZE / 2 * (where[0] + 1)).int().tolist()
        assert rolled.masks[view, 0, 0, row, column] == 1


def test_clips_are_read_by_view_and_frame(tmp_path, viewpoints):
    cameras = viewpoints.jittered_orbit(VIEWS, np.random.default_rng(0))
    folder = tmp_path / "a/b/video_32"
    for view, camera in enumerate(cameras):
        for frame in range(3):
            at = np.array([0.1 * frame, 0, 0])
            path = folder / f"{view:05d}/{frame:05d}.png"
            image(at, torch.from_numpy(camera).float(), (60 * view, 100 * frame, 0), path)
        (folder / f"{view:05d}/camera.json").write_text(json.dumps(viewpoints.camera_json(camera)))
    (folder / "clip.json").write_text('{"background": 0.3, "frames": [1, 4, 7], "step": 3, "fps": 24}')
    (item,) = objaverse.scan(tmp_path, "clip", VIEWS).objects
    views = objaverse.load(item, SIZE, views=[1, 3], frames=[0, 2])
    assert views.rgba.shape == (2, 2, 4, SIZE, SIZE) and views.background == 0.3
    torch.testing.assert_close(views.cameras, torch.from_numpy(cameras[[1, 3]]).float())
    assert views.rgba[1, 1, :2].amax((1, 2)).tolist() == [180, 200]


def test_resampling_does_not_mix_the_hidden_colour_into_the_edge(tmp_path, root):
    path = root / "a/b/campos_512_v4/00000/00000.png"
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[..., 1] = 255  # green behind alpha 0
    rgba[16:49, 16:49] = (255, 0, 0, 255)
    Image.fromarray(rgba).save(path)
    views = objaverse.load(objaverse.scan(root, views=VIEWS).objects[0], SIZE, views=[0])
    assert views.over(0.0)[:, :, 1].max() < 0.02
