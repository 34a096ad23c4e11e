"""The starter's table: what is made is what was asked for, and it is nearly as sharp as true pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.starter import evaluate_views


def test_one_prompt_is_made_named_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_views, "CATEGORIES", ("mushroom",))
    monkeypatch.setattr(evaluate_views, "COLORS", ("red",))
    assert evaluate_views.main(["--seeds", "1", "--out", str(tmp_path)]) == 0
    table = json.loads((tmp_path / "starter.json").read_text("utf-8"))
    assert table["generated: both"] == table["true pictures: both"] == 1
    assert table["refined splats against views, dB"] > table["reconstructed splats against views, dB"] > 15
    assert 0.2 < table["sharpness of refined splats"] < 1.5
    assert (tmp_path / "0000.png").is_file()
