"""The report of a machine: what is in it, what is not, and the exit code where nothing could run."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from backend import doctor
from backend.pipelines import devices
from backend.shared import model_store


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
