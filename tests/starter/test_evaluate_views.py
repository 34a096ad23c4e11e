"""The shipped starter's table: what is made is what was asked for, and its splats are like its views."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.starter import evaluate_views


def test_some_prompts_are_made_named_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_views, "CATEGORIES", ("mushroom",))
    monkeypatch.setattr(evaluate_views, "COLORS", ("red", "yellow", "blue"))  # yellow ones were never seen
    monkeypatch.setattr(evaluate_views, "DIVERSE_PROMPTS", 1)
    monkeypatch.setattr(evaluate_views, "DIVERSE_SEEDS", 2)
    assert evaluate_views.main(["--prompts", "3", "--images", "1", "--out", str(tmp_path)]) == 0
    table = json.loads((tmp_path / "starter.json").read_text("utf-8"))
    assert table["all: both"] == table["true images, same judge: both"] == 1
    assert table["refined splats against views, dB"] > table["reconstructed splats against views, dB"] > 15
    assert 0.2 < table["sharpness of the splats"] < 1.5
    assert (tmp_path / "text-0000.png").is_file()
