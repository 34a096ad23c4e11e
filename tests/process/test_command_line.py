"""`python -m backend …`: what it makes and its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from backend.evaluation import image_quality
from backend.evaluation.images import images_of
from backend.shared import asset
from backend.shared.protocol import BROKEN_PIPE
from tests.process.terminal import command

ROOT = Path(__file__).parents[2]


def backend(
    *arguments: str, python: str = sys.executable, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "backend", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@dataclass(frozen=True)
class Made:
    """An asset, and what the command said."""

    folder: Path
    result: subprocess.CompletedProcess[str]


ORBIT = ["--views", "6", "--elevation", "25", "--radius", "2.1"]
WANTED = ["generate", "a red mushroom", "--seed", "7", "--steps", "3", *ORBIT, "--out"]


@pytest.fixture(scope="module")
def mushroom(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Made once, since it takes its time: on two threads, where this process has one."""
    folder = tmp_path_factory.mktemp("generated") / "new" / "asset"
    return Made(folder, backend(*WANTED, str(folder), OMP_NUM_THREADS="2"))


def test_generate_makes_an_asset_and_prints_its_path(mushroom: Made) -> None:
    assert mushroom.result.returncode == 0, mushroom.result.stderr
    assert Path(mushroom.result.stdout.strip()) == mushroom.folder
    request = asset.read_asset(mushroom.folder).request
    assert (request["prompt"], request["seed"], request["steps"]) == ("a red mushroom", 7, 3)
    assert len(mushroom.result.stderr.splitlines()) > 2  # a line for each stage, where there is no terminal


def test_orbit_that_is_asked_for_is_the_one_in_the_asset(mushroom: Made) -> None:
    assert "elevation 25° (trained: 15°) and radius 2.1 m (trained: 1.9 m)" in mushroom.result.stderr
    made = asset.read_asset(mushroom.folder)
    assert (made.request["elevation_deg"], made.request["radius"]) == (25, 2.1)
    eyes, back = made.cameras[:, :3, 3], made.cameras[:, :3, 2]
    elevation, azimuth = np.radians(25), np.radians(60 * np.arange(6))
    ring = (
        np.cos(elevation) * np.cos(azimuth),
        np.cos(elevation) * np.sin(azimuth),
        np.full(6, np.sin(elevation)),
    )
    np.testing.assert_allclose(eyes, 2.1 * np.stack(ring, 1), atol=1e-5)
    np.testing.assert_allclose(back, eyes / 2.1, atol=1e-5)  # all look at the origin
    seen = images_of(made)  # the splats through these very cameras, beside the views
    assert image_quality.psnr(seen.renders.flatten(0, 1), seen.views.flatten(0, 1)) > 25


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["generate", ""], 2, "E_PROMPT_EMPTY"),
        (["generate", "x" * 10_000], 2, "E_PROMPT_TOO_LONG"),
        (["generate", "a red mushroom", "--model", "nothing"], 2, "E_MODEL_UNKNOWN"),
        (["generate", "a red mushroom", "--steps", "0"], 2, "E_REQUEST"),
        (["generate", "a red mushroom", "--elevation", "90"], 2, "E_REQUEST"),
        (["generate", "--image", "object.png", "--model", "vivid-zoo"], 2, "conditioned on text"),
        (["generate", "--image", "object.png", "--frames", "8"], 2, "of a prompt, not of an image"),
        (["generate", "a car", "--model", "background-removal"], 2, "makes nothing alone"),
        (["generate", "a red mushroom", "--method", "magic"], 2, "reconstruct, distill"),
        (["generate"], 2, "E_PROMPT_EMPTY"),
        (["nonsense"], 2, "usage"),
        ([], 2, "usage"),
        (["train", "nothing"], 2, "E_REQUEST"),
    ],
)
def test_wrong_request(tmp_path: Path, arguments: list[str], code: int, word: str) -> None:
    out = ["--out", str(tmp_path / "asset")] if arguments[:1] == ["generate"] else []
    ended, _, err = command(*arguments, *out)
    assert ended == code
    assert word in err
    assert not (tmp_path / "asset").exists()


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = backend("generate", "a red mushroom", "--out", str(tmp_path / "file" / "asset"))
    assert result.returncode == 4
    assert "E_OUTPUT_UNWRITABLE" in result.stderr


def test_environment_without_torch(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    result = backend("generate", "a red mushroom", "--out", str(tmp_path / "asset"), python=str(python))
    assert result.returncode == 3
    assert "cannot load" in result.stderr
    assert "Install Backend" in result.stderr


def test_broken_pipe_ends_quietly() -> None:
    listing = subprocess.Popen(
        [sys.executable, "-m", "backend", "models"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    listing.stdout.close()  # as `| head` does
    assert listing.stderr.read() == b""
    assert listing.wait() == BROKEN_PIPE


def test_models_are_listed() -> None:
    code, out, _ = command("models")
    assert code == 0
    assert out.startswith("starter")


@pytest.mark.usefixtures("one_thread")  # the other process has as many as there are cores
def test_same_seed_gives_the_same_files_with_any_number_of_threads(mushroom: Made, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert command(*WANTED, str(again))[0] == 0
    one, other = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (mushroom.folder, again)
    )
    assert len(one) > 8
    assert one.keys() == other.keys()
    assert [path for path in one if one[path] != other[path]] == [Path("asset.json")]  # it has the times
