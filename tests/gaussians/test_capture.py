"""Captures of every tool are read alike, and what is wrong with one is said in words."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.gaussians.beginning import extent, first_cloud
from backend.gaussians.capture import moved, read_capture
from backend.shared.protocol import DioramaError
from tests.gaussians.capture_folder import SIZE, edit, write_capture
from tests.gaussians.painted_blob import FOV_DEG

FOCAL = SIZE / (2 * math.tan(math.radians(FOV_DEG) / 2))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_capture(tmp_path_factory.mktemp("capture"), images="./images/r_{}")


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "capture"))


def test_nerf_s_layout_holds_out_its_own_test_views(folder: Path) -> None:
    data = json.loads((folder / "transforms.json").read_text())
    (folder / "transforms.json").unlink()
    for part, frames in (("train", data["frames"][:20]), ("test", data["frames"][20:])):
        (folder / f"transforms_{part}.json").write_text(json.dumps({**data, "frames": frames}))
    found = read_capture(folder, SIZE)
    assert (len(found.frames[0]), len(found.held_out[0]), found.has_alpha) == (20, 4, True)
    assert found.frames[0][0].K[0, 0] == pytest.approx(FOCAL)


def test_every_eighth_view_is_held_out_of_many_and_none_of_few(folder: Path) -> None:
    found = read_capture(folder, SIZE)
    assert (len(found.frames[0]), len(found.held_out[0])) == (21, 3)
    edit(folder, lambda data: data.update(frames=data["frames"][:12]))
    assert [len(read_capture(folder, SIZE).held_out[0])] == [0]


def test_intrinsics_of_a_frame_go_before_those_of_all(folder: Path) -> None:
    def change(data: dict) -> None:
        del data["camera_angle_x"]
        data.update(fl_x=70.0, fl_y=72.0, cx=30.0, cy=33.0, w=SIZE, h=SIZE, camera_model="OPENCV")
        data["frames"][0].update(fl_x=80.0, fl_y=81.0)

    edit(folder, change)
    views = read_capture(folder, SIZE).frames[0]
    assert views[0].K.tolist() == [[80, 0, 30], [0, 81, 33], [0, 0, 1]]
    assert views[1].K.tolist() == [[70, 0, 30], [0, 72, 33], [0, 0, 1]]
    smaller = read_capture(folder, SIZE // 2).frames[0][1]
    assert smaller.size_px == (32, 32) and smaller.K[0].tolist() == [35, 0, 15]


def test_distortion_is_taken_out(folder: Path) -> None:
    """A straight line that the lens has bent is straight again."""
    k1, focal, size = 0.4, 60.0, 65
    y, x = (np.mgrid[:size, :size] + 0.5 - size / 2) / focal
    radius, straight = np.hypot(x, y), np.linspace(0, 1, 2000)
    found = np.interp(radius, straight * (1 + k1 * straight**2), straight)  # where the light came from
    line = np.abs(x * np.divide(found, radius, where=radius > 0, out=np.ones_like(radius)) - 0.3) < 0.03
    image = np.zeros((size, size, 3), np.uint8)
    image[line] = 255
    for i in range(2):
        Image.fromarray(image).save(folder / f"images/{i}.png")

    def change(data: dict) -> None:
        frames = [{**frame, "file_path": f"images/{i}.png"} for i, frame in enumerate(data["frames"][:2])]
        data.update(frames=frames, fl_x=focal, w=size, h=size, k1=k1)

    edit(folder, change)
    pixels = read_capture(folder, size).frames[0][0].rgba[..., 0].float()
    columns = (pixels * torch.arange(size)).sum(1) / pixels.sum(1)  # the line's place in each row
    bent = torch.from_numpy(image[..., 0]).float()
    was_bent = ((bent * torch.arange(size)).sum(1) / bent.sum(1)).std()
    assert was_bent > 0.6 and columns.std() < was_bent / 2


def test_images_without_alpha_begin_at_the_sparse_cloud_or_in_the_frustums(folder: Path) -> None:
    for path in (folder / "images").glob("*.png"):
        with Image.open(path) as image:
            image.convert("RGB").save(path)
    generator = torch.Generator().manual_seed(0)
    found = read_capture(folder, SIZE)
    assert not found.has_alpha and found.points is None
    center, radius = extent(found)
    assert center.norm() < 0.05 and radius == pytest.approx(2.0, rel=0.05)
    cloud = first_cloud(moved(found, center, 1 / radius), 500, 1, generator)
    assert cloud.means.shape == (500, 3) and cloud.sh.shape == (500, 4, 3)

    rng = np.random.default_rng(0)
    rows = [f"{x} {y} {z} 255 0 0" for x, y, z in rng.normal(size=(50, 3)) * 0.3 + [0, 0, 1]]
    names = "".join(f"property float {n}\n" for n in "xyz")
    names += "".join(f"property uchar {n}\n" for n in ("red", "green", "blue"))
    header = f"ply\nformat ascii 1.0\nelement vertex 50\n{names}end_header\n"
    (folder / "points3D.ply").write_text(header + "\n".join(rows) + "\n")
    found = read_capture(folder, SIZE)
    center, radius = extent(found)
    assert center[2] == pytest.approx(1.0, abs=0.2)
    cloud = first_cloud(moved(found, center, 1 / radius), 500, 0, generator)
    assert len(cloud) == 50 and (cloud.sh[:, 0, 0] > 1.7).all() and (cloud.sh[:, 0, 1] < -1.7).all()


def test_hull_is_where_the_object_is(folder: Path) -> None:
    found = read_capture(folder, SIZE)
    center, radius = extent(found)
    assert center.norm() < 0.25 and 0.55 < radius < 0.9
    cloud = first_cloud(moved(found, center, 1 / radius), 2000, 0, torch.Generator().manual_seed(0))
    ellipsoid = np.linalg.norm((cloud.means * radius + center.numpy()) / [0.5, 0.4, 0.6], axis=1)
    assert np.quantile(ellipsoid, 0.05) > 0.7 and np.quantile(ellipsoid, 0.95) < 1.45


BROKEN = {
    "no images": (lambda data: data.update(frames=[]), "lists no frames"),
    "no intrinsics": (lambda data: data.pop("camera_angle_x"), "has no intrinsics"),
    "one view": (lambda data: data.update(frames=data["frames"][:1]), "one view"),
    "not a number": (lambda data: data["frames"][3]["transform_matrix"][0].__setitem__(3, math.nan), "NaN"),
    "flat": (lambda data: data["frames"][3].update(transform_matrix=[[0] * 4] * 4), "no camera"),
    "3 numbers": (lambda data: data["frames"][3].update(transform_matrix=[1, 2, 3]), "4 × 4"),
    "another size": (lambda data: data.update(w=100, h=SIZE), "64 × 64 pixels, .* says 100 × 64"),
    "missing image": (lambda data: data["frames"][2].update(file_path="images/gone"), "gone.* is missing"),
    "no name": (lambda data: data["frames"][2].pop("file_path"), "no file_path"),
    "fisheye": (lambda data: data.update(camera_model="OPENCV_FISHEYE"), "FISHEYE"),
    "alone in time": (lambda data: data["frames"][0].update(time=0.5), "one view of the moment"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_is_named(folder: Path, what: str) -> None:
    change, words = BROKEN[what]
    edit(folder, change)
    with pytest.raises(DioramaError, match=words) as caught:
        read_capture(folder, SIZE)
    assert caught.value.code == "E_CAPTURE" and caught.value.hint


def test_folders_and_files_that_are_none_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DioramaError, match=r"holds no transforms\.json"):
        read_capture(tmp_path / "nowhere", SIZE)
    (folder / "images/r_3.png").write_bytes(b"no image")
    with pytest.raises(DioramaError, match=r"r_3\.png cannot be read as an image"):
        read_capture(folder, SIZE)
    (folder / "transforms.json").write_text("{")
    with pytest.raises(DioramaError, match="cannot be read"):
        read_capture(folder, SIZE)


def test_silhouettes_that_fit_no_object_are_refused(folder: Path) -> None:
    for i, path in enumerate(sorted((folder / "images").glob("*.png"))):
        with Image.open(path) as image:
            pixels = np.array(image)
        left = np.arange(SIZE) < SIZE // 3
        pixels[..., 3] = 255 * (left if i % 2 else left[::-1])
        Image.fromarray(pixels).save(path)
    with pytest.raises(DioramaError, match="nothing in common"):
        extent(read_capture(folder, SIZE))
