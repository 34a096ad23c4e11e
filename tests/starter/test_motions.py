"""Objects of the starter's world that move: each motion moves, repeats, stays in the image, has its words."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.cameras import orbit
from backend.starter import clips, motions, sdf, tracing
from backend.starter.objects.framing import ELEVATION_DEG, FOV_DEG, RADIUS
from backend.starter.objects.named import Request
from backend.starter.objects.vocabulary import TOKENS, vocabulary
from backend.training import text

MOTIONS = [name for name in motions.MOTION_SYNONYMS if name != motions.STILL]


def images(clip: motions.WorldClip, size: int = 48) -> torch.Tensor:  # [F, V, 4, H, W]
    cameras = orbit(2, ELEVATION_DEG, RADIUS, 45.0)
    return torch.stack([tracing.render(shape, cameras, FOV_DEG, size) for shape in clip.frames])


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_motion_moves_and_stays_in_the_image(motion: str) -> None:
    seen = images(motions.make_clip(3, 8, Request("cactus", "green"), motion))
    alpha = seen[:, :, 3]
    assert (alpha - alpha.mean(0)).abs().amax() > 0.2
    edge = torch.cat([alpha[..., 0, :], alpha[..., -1, :], alpha[..., 0], alpha[..., -1]], -1)
    assert edge.max() == 0
    assert (alpha > 0.5).float().mean((1, 2, 3)).min() > 0.03


def test_object_that_stands_still_has_one_image() -> None:
    seen = images(motions.make_clip(3, 3, Request("duck", "yellow"), motions.STILL), 24)
    assert (seen - seen[:1]).abs().max() == 0


@pytest.mark.parametrize("motion", MOTIONS)
def test_posed_distance_never_reaches_further_than_the_surface(motion: str) -> None:
    """Sphere tracing needs lower bounds: no step of the stated length may change the sign."""
    shape = motions.make_clip(5, 8, Request("fish", "red"), motion).frames[2]
    generator = torch.Generator().manual_seed(0)
    points = 1.4 * torch.rand(4000, 3, generator=generator) - 0.7
    directions = torch.nn.functional.normalize(torch.randn(4000, 3, generator=generator), dim=1)
    distance = sdf.distance(shape, points)[0]
    outside = distance > 0.01
    reached = points + 0.9 * distance[:, None] * directions
    inside = sdf.distance(replace(shape), reached)[0][outside] < -1e-3
    assert inside.float().mean() < 0.002  # ellipsoids are bounded closely, not strictly


@pytest.mark.parametrize("motion", MOTIONS)
def test_rays_that_pass_a_moved_solid_find_it(motion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = motions.make_clip(6, 8, Request("dog", "blue"), motion).frames[3]
    cameras = orbit(2, ELEVATION_DEG, RADIUS, 45.0)
    culled = tracing.render(shape, cameras, FOV_DEG, 48)
    monkeypatch.setattr(tracing, "_bounds", lambda shape, solids: np.tile([0.0, 0, 0, 0.9], (len(solids), 1)))
    every = tracing.render(shape, cameras, FOV_DEG, 48)
    assert ((culled - every).abs().amax(1) > 0.05).float().mean() < 0.004


def test_an_object_on_its_way_back_is_as_on_its_way_there() -> None:
    frames = motions.make_clip(2, 8, motion="nodding").frames
    assert frames[1] == frames[3] and frames[5] == frames[7] and len(set(frames)) == 5


def test_motions_repeat_after_their_last_frame() -> None:
    poses = [shape.pose for shape in motions.make_clip(1, 8, motion="swimming").frames]
    steps = [b.wave_phase - a.wave_phase for a, b in itertools.pairwise(poses)]
    assert all(math.isclose(step, 2 * math.pi / 8) for step in steps)


def test_captions_name_the_motion_in_known_words() -> None:
    tokenizer = text.make_tokenizer([*vocabulary(), *motions.motion_vocabulary()], TOKENS)
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
    monkeypatch.setattr(clips, "FRAMES", 2)
    first = clips.load(tmp_path, range(3), 16)
    monkeypatch.setattr(clips, "render", None)  # nothing may be rendered again
    again = clips.load(tmp_path, range(3), 16)
    assert torch.equal(first.rgba, again.rgba)
    assert first.rgba.shape == (3, 4, 2, 4, 16, 16)
    assert again.motions == [motions.make_clip(seed, 2).motion for seed in range(3)]
