"""The report of a machine: what is in it, what is not, and the exit code where nothing could run."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from backend import doctor
from backend.pipelines import arithmetic, devices, generate
from backend.pipelines.memory import Size
from backend.pipelines.triposplat_model import NETWORKS, TripoSplatSettings, TripoSplatWork
from backend.shared import model_store
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest


def test_report_says_how_models_would_run_and_names_no_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(model_store.ROOT_VARIABLE, str(tmp_path))
    report = doctor.examine()
    text = report["text"]
    assert report["usable"]
    for words in ("torch ", "diffusers ", "cores", "free for models", "splats are drawn"):
        assert words in text
    assert text.count("denoising takes about: draft") == 2  # the starter's still and its moving objects
    assert "mvdream-lgm not installed" in text
    for private in (Path.home(), tmp_path, f"/{getpass.getuser()}/"):
        assert str(private) not in text


def test_report_of_a_damaged_model_names_no_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    root = tmp_path / "models"
    monkeypatch.setenv(model_store.ROOT_VARIABLE, str(root))

    def damaged(request: GenerationRequest) -> None:
        raise DioramaError("E_WEIGHTS_CORRUPT", f"{root / 'unet'} and {tmp_path / 'x'} cannot be read")

    monkeypatch.setattr(generate, "work_for", damaged)
    text = doctor.examine()["text"]
    assert "E_WEIGHTS_CORRUPT: (models)/unet and ~/x cannot be read" in text
    assert str(tmp_path) not in text


def test_triposplat_has_an_estimate_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = TripoSplatSettings()
    work = TripoSplatWork({part: Size(1, 1) for part in NETWORKS}, 1, 1, settings, "splats", "splats")
    monkeypatch.setattr(generate, "work_for", lambda request: (tmp_path, work))
    monkeypatch.setattr(arithmetic, "matmul_flop_per_s", lambda device, dtype: 1e12)
    monkeypatch.setattr(doctor, "EFFICIENCY", 1.0)
    _, (_, estimate) = doctor._generation(GenerationRequest("", "triposplat", image="image.png"))
    assert "draft 6 min, standard 12 min, full 12 min (36.2 TFLOP a step" in estimate


def test_nothing_could_run_without_packages_or_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(doctor, "MODELS", {})
    assert doctor.main() == 3
    assert "no model is installed" in capsys.readouterr().out

    def missing() -> None:
        raise ImportError("no torch", name="torch")

    monkeypatch.setattr(devices, "best_device", missing)
    assert doctor.main() == 3
    assert "cannot load torch" in capsys.readouterr().out
