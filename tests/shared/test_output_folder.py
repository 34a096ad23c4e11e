"""Output folders and files: nothing of the user's is replaced, and nothing half-written looks finished."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from backend.shared import asset, output_folder
from backend.shared.job_file import folder_name
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest
from tests.shared.test_asset import make_cloud, write_small_asset
from tests.small_disk import run_on_small_disk


@pytest.mark.parametrize(
    "name", ["transforms.json", "views/v00_f0000.png", "preview.png", "asset.json", "notes.txt", "a/b.txt"]
)
def test_folder_with_files_of_the_users_is_refused(tmp_path: Path, name: str) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(DioramaError, match="was not made by Diorama") as caught:
        write_small_asset(tmp_path)
    assert caught.value.code == "E_OUTPUT_UNWRITABLE"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [mine.name]
    assert mine.read_text() == "mine"


def test_what_the_user_changed_in_an_asset_is_not_replaced(tmp_path: Path) -> None:
    write_small_asset(tmp_path)
    painted = tmp_path / "views/v00_f0000.png"
    painted.write_bytes(b"painted over")
    with pytest.raises(DioramaError, match="has been changed since"):
        write_small_asset(tmp_path, seed=8)
    assert painted.read_bytes() == b"painted over"


def test_file_of_the_users_among_those_of_an_asset_is_not_replaced(tmp_path: Path) -> None:
    write_small_asset(tmp_path)
    (tmp_path / "views/v09_f0000.png").write_bytes(b"mine")
    (tmp_path / "mesh.glb").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DioramaError, match="was not made by Diorama"):
        write_small_asset(tmp_path, mesh=b"glTF")
    assert (tmp_path / "mesh.glb").is_symlink()


def test_folder_that_a_killed_process_left_is_used_again(tmp_path: Path, monkeypatch) -> None:
    write_small_asset(tmp_path, seed=1, clouds=3)
    replace, moved = os.replace, []

    def killed(source: object, target: object) -> None:
        moved.append(target)
        if len(moved) == 4:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_small_asset(tmp_path, seed=2)
    monkeypatch.setattr(os, "replace", replace)
    (tmp_path / ".partial-ab12cd34/views").mkdir(parents=True)
    (tmp_path / "Thumbs.db").write_bytes(b"of the system")
    with pytest.raises(DioramaError):
        asset.read_asset(tmp_path)
    write_small_asset(tmp_path, seed=3)
    assert asset.read_asset(tmp_path).seed == 3
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()
    assert not (tmp_path / "asset.json.partial").exists()


def test_picture_of_a_camera_belongs_to_its_asset(tmp_path: Path) -> None:
    picture = tmp_path / "source/preview.png"
    picture.parent.mkdir()
    picture.write_bytes(b"what it saw")
    given = {
        "model": "m", "clouds": [make_cloud()], "views": np.zeros((1, 1, 4, 4, 3)),
        "cameras": np.eye(4)[None], "fov_deg": 40.0, "blending": "linear", "timings": {},
    }  # fmt: skip
    asset.write_asset(tmp_path, request={"image": str(picture)}, **given)
    assert "source/preview.png" in json.loads((tmp_path / "asset.json").read_text())["files"]
    asset.write_asset(tmp_path, request={"prompt": "x"}, **given)
    assert not picture.exists()


def test_view_that_is_a_link_out_of_its_asset_is_not_read(tmp_path: Path) -> None:
    folder = write_small_asset(tmp_path / "asset")
    view = folder / "views/v00_f0000.png"
    (tmp_path / "secret").write_bytes(view.read_bytes())
    view.unlink()
    view.symlink_to(tmp_path / "secret")
    with pytest.raises(DioramaError, match="leads out of the folder"):
        asset.read_asset(folder)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="there is a device that takes everything on POSIX")
def test_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    device = tmp_path / "device"
    os.mkfifo(device)
    with pytest.raises(OSError, match="no plain file"), output_folder.whole_file(device) as partial:
        partial.write_bytes(b"x")
    assert device.is_fifo() and [path.name for path in tmp_path.iterdir()] == ["device"]


def test_file_is_written_through_a_link_and_whole(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real.partial").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(ValueError, match="half"), output_folder.whole_file(tmp_path / "link") as partial:
        partial.write_bytes(b"ne")
        raise ValueError("half")
    assert (tmp_path / "real").read_bytes() == b"old"
    with output_folder.whole_file(tmp_path / "link") as partial:
        partial.write_bytes(b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real", "real.partial"]


def test_read_only_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_bytes(b"mine")
    (tmp_path / "a.ply").chmod(0o444)
    with pytest.raises(OSError, match="read-only"), output_folder.whole_file(tmp_path / "a.ply") as partial:
        partial.write_bytes(b"new")
    assert (tmp_path / "a.ply").read_bytes() == b"mine"


def test_names_of_folders_keep_the_letters_of_every_script(tmp_path: Path) -> None:
    names = [folder_name(GenerationRequest(prompt)) for prompt in ("赤い きのこ", "लाल मशरूम", "Гриб №7")]
    assert [name.rsplit("-", 2)[0] for name in names] == ["赤い-きのこ", "लाल-मशरूम", "гриб-7"]


def test_another_image_in_the_same_file_is_another_job(tmp_path: Path) -> None:
    image = tmp_path / "chair.png"
    image.write_bytes(b"1")
    request = GenerationRequest(image=str(image), model="videomv-i2v")
    first = folder_name(request)
    image.write_bytes(b"2")
    assert folder_name(request) != first


WRITE_TWICE = """
import os, sys
from backend.shared.asset import read_asset
from backend.shared.protocol import DioramaError
from tests.shared.test_asset import write_small_asset
write_small_asset(sys.argv[1], seed=1)
there = sorted(os.walk(sys.argv[1]))
try:
    write_small_asset(sys.argv[1], seed=2, clouds=40)
except DioramaError as error:
    print(error.code, error.exit_code)
print(read_asset(sys.argv[1]).seed, sorted(os.walk(sys.argv[1])) == there)
"""


def test_full_disk_is_said_and_what_was_there_stays(tmp_path: Path) -> None:
    assert run_on_small_disk(tmp_path, 100, WRITE_TWICE).splitlines() == ["E_DISK_FULL 4", "1 True"]
