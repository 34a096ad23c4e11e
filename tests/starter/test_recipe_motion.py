"""The recipe of the moving starter: it begins with what the starter knows, and runs through to weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from backend.cameras import at_unit_distance
from backend.pipelines import model as models
from backend.starter import clips, recipe_motion
from backend.starter.judges import load_judge
from backend.starter.motion_judge import MotionClassifier
from backend.training.loop import TrainingPlan

SIZE_PX = 64


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> recipe_motion.Recipe:
    """Of few clips in small images."""
    monkeypatch.setattr(recipe_motion, "PROMPTS", ("a red fish swimming",))
    for count in ("NUM_CLIPS", "HELD_OUT", "UNSEEN"):
        monkeypatch.setattr(recipe_motion, count, 2)
    one_step = {name: (4, TrainingPlan(1, 1e-3)) for name in recipe_motion.PLANS}
    monkeypatch.setattr(recipe_motion, "PLANS", one_step)
    monkeypatch.setattr(clips, "SHARD", 2)
    monkeypatch.setattr(clips, "FRAMES", 2)
    monkeypatch.setattr(clips, "SIZE_PX", SIZE_PX)
    made = recipe_motion.Recipe(tmp_path)
    made.settings = dataclasses.replace(made.settings, size_px=SIZE_PX)
    return made


def test_it_begins_with_what_the_starter_knows_of_times_and_cameras(small: recipe_motion.Recipe) -> None:
    still, network, cameras = small.still.unet, small.network, clips.cameras()
    told = still.camera_embedding(cameras.flatten(1))
    torch.testing.assert_close(network.camera_embedding(at_unit_distance(cameras).flatten(1)), told)
    time, fps = (still.time_proj(torch.tensor([number])) for number in (700, recipe_motion.FPS))
    torch.testing.assert_close(
        network.time_embedding(time), still.time_embedding(time) + still.fps_embedding(fps)
    )


def test_a_mirrored_clip_is_seen_from_the_other_side() -> None:
    rgba = torch.arange(4.0 * 2 * 3).view(4, 1, 1, 2, 3)
    mirrored = recipe_motion._mirrored(rgba)
    assert torch.equal(mirrored[1], rgba[3].flip(-1)) and torch.equal(mirrored[0], rgba[0].flip(-1))


def test_stages_run_through_to_weights_that_load(small: recipe_motion.Recipe, tmp_path: Path) -> None:
    for stage in recipe_motion.PLANS:
        small.run(stage)
    latents, captions = small.latents
    assert latents.shape[:3] == (len(captions), clips.NUM_VIEWS, clips.FRAMES)
    small.write(tmp_path / "weights")
    model = models.load(tmp_path / "weights")
    assert model.settings.num_frames == 2 and not model.settings.prompt_beside_image
    assert model.unknown_words("a red dog with a party hat trembling") == []
    load_judge(MotionClassifier, tmp_path / "weights" / "motion_judge")
