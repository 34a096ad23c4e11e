"""Weights that are missing, cut off, or another model's: a code, the file's name, nothing half-made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backend.pipelines.model import load
from backend.shared.model_store import STARTER
from backend.shared.protocol import DioramaError

ROOT = Path(__file__).parents[2]
FILE = "diffusion_pytorch_model.safetensors"


def test_command_with_truncated_or_missing_weights(tmp_path: Path) -> None:
    for package in ("backend", "kernels"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))

    def generate() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "backend", "generate", "a red mushroom", "--steps", "1", "--out", "asset"],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    weights = tmp_path / "backend" / "starter" / "weights"
    cut_short(weights / "unet" / FILE)
    truncated = generate()
    shutil.rmtree(weights)
    missing = generate()
    assert (truncated.returncode, missing.returncode) == (3, 3)
    assert "E_WEIGHTS_CORRUPT" in truncated.stderr
    assert "unet" in truncated.stderr
    assert "Install the extension again" in truncated.stderr
    assert "E_WEIGHTS_MISSING" in missing.stderr
    assert not (tmp_path / "asset").exists()


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    """The starter as links: a file of it is spoilt by taking it away and writing another."""
    return Path(shutil.copytree(STARTER, tmp_path / "starter", copy_function=os.symlink))


def cut_short(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])


def refusal(folder: Path) -> DioramaError:
    with pytest.raises(DioramaError) as caught:
        load(folder)
    assert caught.value.exit_code == 3
    return caught.value


def test_missing_weights(starter: Path) -> None:
    (starter / "unet" / FILE).unlink()
    error = refusal(starter)
    assert error.code == "E_WEIGHTS_MISSING"
    assert "unet" in error.message


def test_weights_of_another_network(starter: Path) -> None:
    (starter / "unet" / FILE).unlink()
    shutil.copy(starter / "autoencoder" / FILE, starter / "unet" / FILE)
    assert refusal(starter).code == "E_WEIGHTS_CORRUPT"


@pytest.mark.parametrize("model", ["", "motion"])
def test_truncated_weights(starter: Path, model: str) -> None:
    cut_short(starter / model / "autoencoder" / FILE)
    error = refusal(starter / model)
    assert error.code == "E_WEIGHTS_CORRUPT"
    assert error.message == f"{starter / model / 'autoencoder'} cannot be read"


def test_settings_that_are_none(starter: Path) -> None:
    (starter / "model.json").unlink()
    (starter / "model.json").write_text("{}")
    error = refusal(starter)
    assert error.code == "E_WEIGHTS_CORRUPT"
    assert "model.json" in error.message
