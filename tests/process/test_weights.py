"""Weights that are missing, cut off, or another model's: a code, the file's name, nothing half-made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.pipelines.model import load
from backend.shared.model_store import STARTER
from backend.shared.protocol import DioramaError

ROOT = Path(__file__).parents[2]
UNET = Path("backend/starter/weights/unet/diffusion_pytorch_model.safetensors")


@pytest.fixture
def generate(tmp_path: Path) -> Callable[[], subprocess.CompletedProcess[str]]:
    """A copy of the backend in tmp_path, whose weights may be spoilt, and the command that uses it."""
    for package in ("backend", "kernels"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "backend", "generate", "a red mushroom", "--steps", "1", "--out", "asset"],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run


def test_missing_weights(tmp_path: Path, generate: Callable) -> None:
    (tmp_path / UNET).unlink()
    result = generate()
    assert result.returncode == 3
    assert "E_WEIGHTS_MISSING" in result.stderr
    assert "unet" in result.stderr
    assert not (tmp_path / "asset" / "asset.json").exists()


def test_missing_model(tmp_path: Path, generate: Callable) -> None:
    shutil.rmtree(tmp_path / "backend/starter/weights")
    result = generate()
    assert result.returncode == 3
    assert "E_WEIGHTS_MISSING" in result.stderr


def test_truncated_weights(tmp_path: Path, generate: Callable) -> None:
    data = (tmp_path / UNET).read_bytes()
    (tmp_path / UNET).write_bytes(data[: len(data) // 2])
    result = generate()
    assert result.returncode == 3
    assert "E_WEIGHTS_CORRUPT" in result.stderr
    assert "unet" in result.stderr
    assert "Install the extension again" in result.stderr
    assert not (tmp_path / "asset" / "asset.json").exists()


def test_weights_of_another_network(tmp_path: Path, generate: Callable) -> None:
    other = tmp_path / "backend/starter/weights/autoencoder/diffusion_pytorch_model.safetensors"
    shutil.copy(other, tmp_path / UNET)
    result = generate()
    assert result.returncode == 3
    assert "E_WEIGHTS_CORRUPT" in result.stderr


def test_truncated_weights_that_the_moving_model_shares(tmp_path: Path) -> None:
    starter = Path(shutil.copytree(STARTER, tmp_path / "starter", copy_function=os.symlink))
    shared = starter / "autoencoder/diffusion_pytorch_model.safetensors"
    data = shared.read_bytes()
    shared.unlink()
    shared.write_bytes(data[: len(data) // 2])
    with pytest.raises(DioramaError) as caught:
        load(starter / "motion")
    assert caught.value.code == "E_WEIGHTS_CORRUPT"
    assert caught.value.message == f"{starter / 'autoencoder'} cannot be read"


def test_settings_that_are_none(tmp_path: Path, generate: Callable) -> None:
    (tmp_path / "backend/starter/weights/model.json").write_text("{}")
    result = generate()
    assert result.returncode == 3
    assert "E_WEIGHTS_CORRUPT" in result.stderr
    assert "model.json" in result.stderr
