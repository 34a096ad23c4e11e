"""Objects of the small world that move: each motion moves, repeats, stays in the image, has its words."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backend.cameras import orbit
from backend.starter import clips, dataset, motions, sdf, world
from backend.training import text

MOTIONS = [name for name in motions.MOTION_SYNONYMS if name != motions.STILL]


def images(clip: motions.WorldClip, size: int = 48) -> torch.Tensor:  # [F, V, 4, H, W]
    cameras = orbit(2, dataset.ELEVATION_DEG, dataset.RADIUS, 45.0)
    return torch.stack([sdf.render(shape, cameras, dataset.FOV_DEG, size)[0] for shape in clip.frames])


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_motion_moves_and_stays_in_the_image(motion: str) -> None:
    seen = images(motions.make_clip(3, 4, "cactus", "green", motion))
    alpha = seen[:, :, 3]
    assert (alpha - alpha.mean(0)).abs().amax() > 0.2
    edge = torch.cat([alpha[..., 0, :], alpha[..., -1, :], alpha[..., 0], alpha[..., -1]], -1)
    assert edge.max() == 0
    assert (alpha > 0.5).float().mean((1, 2, 3)).min() > 0.03


def test_object_that_stands_still_has_one_image() -> None:
    seen = images(motions.make_clip(3, 3, "duck", "yellow", motions.STILL), 24)
    assert (seen - seen[:1]).abs().max() == 0


@pytest.mark.parametrize("motion", MOTIONS)
def test_posed_distance_never_reaches_further_than_the_surface(motion: str) -> None:
    """Sphere tracing needs lower bounds: no step of the stated length may change the sign."""
    shape = motions.make_clip(5, 8, "fish", "red", motion).frames[2]
    generator = torch.Generator().manual_seed(0)
    points = 1.4 * torch.rand(4000, 3, generator=generator) - 0.7
    directions = torch.nn.functional.normalize(torch.randn(4000, 3, generator=generator), dim=1)
    distance = sdf.distance(shape, points)[0]
    outside = distance > 0.01
    reached = points + 0.9 * distance[:, None] * directions
    inside = sdf.distance(replace(shape), reached)[0][outside] < -1e-3
    assert inside.float().mean() < 0.002  # ellipsoids are bounded closely, not strictly


def test_motions_repeat_after_their_last_frame() -> None:
    poses = [shape.pose for shape in motions.make_clip(1, 8, motion="swimming").frames]
    steps = [b.wave_phase - a.wave_phase for a, b in itertools.pairwise(poses)]
    assert all(math.isclose(step, 2 * math.pi / 8) for step in steps)


def test_captions_name_the_motion_in_known_words() -> None:
    tokenizer = text.make_tokenizer([*world.vocabulary(), *motions.motion_vocabulary()])
    made = [motions.make_clip(seed, 2) for seed in range(80)]
    tokens = text.tokens_of(tokenizer, [clip.caption for clip in made])
    assert not (tokens == tokenizer.unk_token_id).any()
    for clip in made:
        assert any(word in clip.caption for word in motions.MOTION_SYNONYMS[clip.motion])
    assert {clip.motion for clip in made} == set(motions.MOTION_SYNONYMS)


def test_clips_are_kept_with_the_cameras_that_saw_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips, "SHARD", 2)
    monkeypatch.setattr(clips, "SIZE_PX", 16)
    monkeypatch.setattr(clips, "FRAMES", 2)
    first = clips.load(tmp_path, range(3))
    monkeypatch.setattr(clips, "render", None)  # nothing may be rendered again
    again = clips.load(tmp_path, range(3))
    assert torch.equal(first.rgba, again.rgba)
    assert first.rgba.shape == (3, 4, 2, 4, 16, 16)
    assert again.motions == [motions.make_clip(seed, 2).motion for seed in range(3)]
    assert torch.allclose(first.cameras[1], orbit(16, 15.0, 1.9)[1::4])
