"""The judges of the starters: what is loaded is theirs, in full precision, or it is refused in words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.shared.model_store import MOTION, STARTER
from backend.shared.protocol import DioramaError
from backend.starter.judges import WorldClassifier, load_judge
from backend.starter.motion_judge import MotionClassifier

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("kind", "folder"),
    [
        (WorldClassifier, "judge"),
        (MotionClassifier, f"{MOTION}/motion_judge"),
    ],
)
def test_shipped_judges_are_loaded_in_full_precision(kind: type, folder: str) -> None:
    judge = load_judge(kind, STARTER / folder)
    stored = load_file(STARTER / folder / WEIGHTS)
    assert isinstance(judge, kind) and not judge.training
    assert all(torch.equal(tensor, stored[name].float()) for name, tensor in judge.state_dict().items())


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STARTER / "judge", tmp_path / "judge"))


def refused(folder: Path, kind: type = WorldClassifier) -> DioramaError:
    with pytest.raises(DioramaError) as caught:
        load_judge(kind, folder)
    return caught.value


def test_weights_of_another_network_are_refused_by_name(copied: Path) -> None:
    weights = load_file(copied / WEIGHTS)
    weights["category.weight"] = weights["category.weight"][:5].clone()
    del weights["color.bias"]
    save_file(weights, copied / WEIGHTS)
    error = refused(copied)
    assert error.code == "E_WEIGHTS_CORRUPT"
    assert (
        "1 missing: color.bias; 1 of another shape: category.weight [5, 128] instead of [40, 128]"
        in error.message
    )


def test_a_judge_of_other_things_is_refused_by_kind(copied: Path) -> None:
    error = refused(copied, MotionClassifier)
    assert error.code == "E_WEIGHTS_CORRUPT"
    assert error.message.endswith("judge holds a WorldClassifier, not a MotionClassifier")
    assert error.hint


def test_a_folder_without_a_judge_is_refused(copied: Path, tmp_path: Path) -> None:
    assert refused(tmp_path).code == "E_WEIGHTS_MISSING"
    (copied / "config.json").write_text("[]")
    error = refused(copied)
    assert (
        error.code == "E_WEIGHTS_CORRUPT" and "config.json is not that of a WorldClassifier" in error.message
    )
