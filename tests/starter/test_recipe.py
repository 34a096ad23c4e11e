"""The starters' recipes: what cannot be shared is refused, and nothing half written is taken for finished."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from backend.shared.protocol import DioramaError
from backend.starter import dataset, recipe, recipe_prior
from backend.starter.dataset import WorldViews
from backend.training.loop import TrainingPlan
from tests import tiny


def test_a_batch_that_processes_cannot_share_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(work: Path) -> recipe.Recipe:
        raise AssertionError("begun")

    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(DioramaError, match=r"batch of 2 .* 4 processes") as caught:
        recipe.main(
            [],
            "starter",
            "",
            {"views": (8, TrainingPlan(1, 1.0)), "alignment": (2, TrainingPlan(1, 1.0))},
            tmp_path,
            never,
        )
    assert caught.value.code == "E_REQUEST"


def test_latents_whose_writing_was_interrupted_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    made = object.__new__(recipe_prior.Recipe)
    made.work, made.autoencoder = tmp_path, tiny.autoencoder(1)
    made.world = WorldViews(torch.zeros(1, 2, 4, 16, 16, dtype=torch.uint8), ["a duck"], ["duck"], ["red"])
    monkeypatch.setattr(dataset, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _ = made.latents
    assert not (tmp_path / "latents.safetensors").exists()
