"""`python -m backend evaluate`: a table, numbers, a sheet; what cannot be measured is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from backend.__main__ import main
from backend.evaluation import consistency
from tests.evaluation.measured import SIZE, blob, make_asset


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIORAMA_MODELS", raising=False)
    monkeypatch.setattr(consistency.self_consistency, "__defaults__", (10, 200))  # steps, Gaussians


@pytest.mark.parametrize(("opaque", "blending"), [(False, "linear"), (False, "display"), (True, "display")])
def test_splats_that_are_the_views_measure_as_identical(tmp_path, capsys, opaque, blending):
    folder = make_asset(tmp_path / "a", [blob()], opaque=opaque, blending=blending)
    assert main(["evaluate", str(folder), "--json", str(tmp_path / "out.json")]) == 0
    measured = json.loads((tmp_path / "out.json").read_text())["assets"][str(folder)]
    assert measured["PSNR, splats to views"]["value"] > 40  # PNG rounds
    assert measured["SSIM, splats to views"]["value"] > 0.995
    views, splats = (measured[f"flow RMSE at gap 1, {name}"]["value"] for name in ("views", "splats"))
    assert splats == pytest.approx(views, rel=0.1)
    assert measured["flow RMSE at gap 6, views"] == {
        "value": None, "unit": "", "better": "lower", "note": "too few views"
    }  # fmt: skip
    for name, where in (("LPIPS, splats to views", "lpips/vgg16"), ("CLIP score, views", "clip/config.json")):
        assert measured[name]["value"] is None
        assert measured[name]["note"].startswith("weights not installed") and where in measured[name]["note"]
    table = capsys.readouterr().out
    assert "PSNR, splats to views" in table and "dB" in table and "weights not installed" in table


def test_splats_of_another_object_measure_worse_and_the_mean_is_printed(tmp_path, capsys):
    same = make_asset(tmp_path / "same", [blob()])
    other = make_asset(tmp_path / "other", [blob(brightness=-0.3)], views=[blob()])
    assert main(["evaluate", str(same), str(other), "--json", str(tmp_path / "out.json")]) == 0
    measured = json.loads((tmp_path / "out.json").read_text())["assets"]
    good, bad = (measured[str(path)]["PSNR, splats to views"]["value"] for path in (same, other))
    assert good > bad + 15
    assert "mean of 2 assets" in capsys.readouterr().out


def test_the_sheet_shows_views_above_splats(tmp_path):
    folder = make_asset(tmp_path / "a", [blob(brightness=-1)], views=[blob(brightness=1)], count=5)
    assert main(["evaluate", str(folder), "--sheet", str(tmp_path / "new/sheet.png")]) == 0
    sheet = np.asarray(Image.open(tmp_path / "new/sheet.png"))
    assert sheet.shape == (16 + 2 * SIZE, 5 * SIZE, 3)
    middle = slice(SIZE // 2 - 4, SIZE // 2 + 4)
    above, below = sheet[16 : 16 + SIZE], sheet[16 + SIZE :]
    for view in range(5):
        columns = slice(view * SIZE + SIZE // 2 - 4, view * SIZE + SIZE // 2 + 4)
        assert above[middle, columns].mean() > 150 > below[middle, columns].mean() + 50


def test_flicker_of_an_animation_is_seen(tmp_path):
    steady = make_asset(tmp_path / "steady", [blob(shift=0.01 * i) for i in range(3)], count=2)
    flashing = make_asset(tmp_path / "flashing", [blob(brightness=b) for b in (0, 0.2, 0)], count=2)
    assert main(["evaluate", str(steady), str(flashing), "--json", str(tmp_path / "out.json")]) == 0
    measured = json.loads((tmp_path / "out.json").read_text())["assets"]
    calm, restless = (measured[str(path)]["flicker, splats"]["value"] for path in (steady, flashing))
    assert restless > 2 * calm


def test_a_damaged_asset_is_named_and_the_others_are_measured(tmp_path, capsys):
    good, bad = make_asset(tmp_path / "good", [blob()]), make_asset(tmp_path / "bad", [blob()])
    (bad / "splats/0000.ply").write_bytes(b"ply")
    assert main(["evaluate", str(bad), str(good)]) == 1
    printed = capsys.readouterr()
    assert "E_ASSET" in printed.err and "splats/0000.ply" in printed.err
    assert str(good) in printed.out and "PSNR" in printed.out


def test_a_sheet_that_cannot_be_written_is_an_error_in_words(tmp_path, capsys):
    folder = make_asset(tmp_path / "a", [blob()])
    (tmp_path / "file").write_text("")
    assert main(["evaluate", str(folder), "--sheet", str(tmp_path / "file/sheet.png")]) == 4
    assert "E_OUTPUT_UNWRITABLE" in capsys.readouterr().err
