"""The recipe of the moving starter: it begins with what the starter knows, and runs through to weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from backend.cameras import at_unit_distance
from backend.pipelines import model as models
from backend.starter import clips, motion_data, recipe_motion, recipe_views
from backend.starter.judges import load_judge
from backend.starter.motion_judge import MotionClassifier
from backend.starter.objects import pictures
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
    monkeypatch.setattr(recipe_views, "OBJECTS", 3)
    monkeypatch.setattr(pictures, "SHARD", 3)
    monkeypatch.setattr(pictures, "SIZE_PX", SIZE_PX)
    monkeypatch.setattr(clips, "SHARD", 2)
    monkeypatch.setattr(clips, "FRAMES", 2)
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


def test_objects_that_stand_still_are_seen_by_the_cameras_of_clips(small: recipe_motion.Recipe) -> None:
    latents, captions = small.stills
    world = recipe_views.world_of(small.work)
    named = [i for i, item in enumerate(world.items) if item.caption]
    assert captions == [world.items[i].caption for i in named for _ in range(2)]
    for number, item in enumerate(named):
        for view, seen in enumerate((0, 2, 4, 6)):
            image = pictures.on_grey(world.image(item, seen))
            for mirrored, shown, at in ((0, image, view), (1, image.flip(-1), -view % 4)):
                known = small.still.encode(shown[None])[0]
                torch.testing.assert_close(
                    latents[2 * number + mirrored, at, 0].float(), known, atol=0.02, rtol=0.02
                )


def test_a_batch_of_two_worlds_keeps_what_belongs_together() -> None:
    def batch(first: int) -> dict[str, torch.Tensor]:
        numbers = torch.arange(first, first + 5)
        return {"tokens": numbers[:, None], "latents": 10 * numbers}

    both = motion_data.shuffled(batch(0), batch(5), torch.Generator().manual_seed(0))
    assert torch.equal(both["latents"], 10 * both["tokens"][:, 0])
    assert both["latents"].tolist() != sorted(both["latents"].tolist())
    assert sorted(both["latents"].tolist()) == list(range(0, 100, 10))


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
    for config in (tmp_path / "weights").rglob("*.json"):
        assert str(recipe_motion.STARTER) not in config.read_text("utf-8"), config  # where it was read from
