"""The wider world: objects fill their frames, seeds differ, captions use its words, images are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from backend.cameras import orbit
from backend.starter import sdf, tracing
from backend.starter.objects import named, pictures, vocabulary
from backend.starter.objects.compositions import make_composition
from backend.starter.objects.framing import ELEVATION_DEG, FOV_DEG, RADIUS
from backend.starter.objects.named import Request, make_object, mend_article, prompt_for
from backend.starter.patterns import Pattern, albedo
from backend.training import text

SIZE_PX = 40
ORBIT = orbit(4, ELEVATION_DEG, RADIUS)


def alpha_of(shape: sdf.Shape) -> torch.Tensor:  # [V, H, W]
    return tracing.render(shape, ORBIT, 1.05 * FOV_DEG, SIZE_PX)[:, 3]


@pytest.mark.parametrize("category", vocabulary.CATEGORIES)
def test_every_kind_of_object_fills_its_frame_and_stays_inside(category: str) -> None:
    alpha = alpha_of(make_object(11, Request(category)).shape)
    edge = torch.cat([alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1]], 1)
    assert edge.max() < 0.1
    rows, columns = (alpha.amax((0, axis)) > 0.5 for axis in (2, 1))
    assert max(int(rows.sum()), int(columns.sum())) > 0.65 * SIZE_PX


def test_there_are_enough_things_and_colors_to_play_with() -> None:
    assert len(vocabulary.CATEGORIES) >= 32
    assert len(vocabulary.COLORS) >= 12
    assert set(vocabulary.CATEGORIES) == set(vocabulary.SYNONYMS)
    assert set(vocabulary.COLORS) == set(vocabulary.COLOR_SYNONYMS)


def test_no_word_means_two_things() -> None:
    names = [
        name
        for table in (vocabulary.SYNONYMS, vocabulary.COLOR_SYNONYMS)
        for key in table
        for name in vocabulary.names_of(key, table)
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("category", ["cat", "house", "tree", "teapot"])
def test_seeds_make_visibly_different_objects(category: str) -> None:
    alphas = [alpha_of(make_object(seed, Request(category, "red", "", "")).shape) for seed in (1, 2)]
    assert (alphas[0] - alphas[1]).abs().mean() > 0.01


def test_seed_decides_everything() -> None:
    assert make_object(5) == make_object(5)
    assert make_composition(5) == make_composition(5)


def test_captions_are_made_of_the_vocabulary_and_none_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "fit_to_frame", lambda shape, filled: shape)  # slow, and not in the caption
    tokenizer = text.make_tokenizer(vocabulary.vocabulary(), tokens=vocabulary.TOKENS)
    captions = [make_object(seed).caption for seed in range(40)]
    captions += [prompt_for("cat", "red", "blue", pattern) for pattern in vocabulary.PATTERNS]
    tokens = text.tokens_of(tokenizer, captions)
    assert not (tokens == tokenizer.unk_token_id).any()
    assert (tokens[:, -1] == tokenizer.pad_token_id).all()


def test_every_kind_and_every_color_has_pairs_that_are_held_out_and_pairs_that_are_not() -> None:
    pairs = {
        (category, color): vocabulary.is_held_out(category, color)
        for category in vocabulary.CATEGORIES
        for color in vocabulary.COLORS
    }
    for axis in range(2):
        for name in {pair[axis] for pair in pairs}:
            assert {held for pair, held in pairs.items() if pair[axis] == name} == {True, False}


def test_articles_fit_the_word_after_them() -> None:
    assert mend_article("a  orange and a blue teapot") == "an orange and a blue teapot"


def test_a_request_is_kept_to() -> None:
    made = make_object(3, Request("robot", "red", "blue", "stripes"))
    assert (made.category, made.color, made.trim, made.pattern) == ("robot", "red", "blue", "stripes")
    patterns = {s.color for s in made.shape.solids if isinstance(s.color, Pattern)}
    assert {pattern.kind for pattern in patterns} == {"stripes"}


@pytest.mark.parametrize("kind", ["stripes", "spots", "checks"])
def test_patterns_show_both_colors_and_repeat(kind: str) -> None:
    pattern = Pattern(kind, (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), 0.25)  # type: ignore[arg-type]
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0))
    blue = albedo(pattern, points)[:, 2]
    assert 0.05 < float((blue > 0.5).float().mean()) < 0.75
    torch.testing.assert_close(albedo(pattern, points + 0.25)[:, 2], blue, atol=0.02, rtol=0)


@pytest.mark.parametrize("number", [0, 1, 2, 5, 8])
def test_compiled_distances_are_those_of_torch_outside(number: int) -> None:
    shape, _ = pictures.draw(number)
    points = 1.4 * torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) - 0.7
    expected, nearest = sdf.distance(shape, points)
    made, found = tracing.distances(shape, points)
    outside = expected > 0
    assert torch.equal(made > 0, outside)
    assert (made >= expected - 1e-5)[outside].all()  # where an ellipsoid's bound is closer than its formula
    near = outside & (expected < 0.02)
    assert (found == nearest)[near].float().mean() > 0.95


def test_compiled_images_are_those_of_torch_but_for_their_edges() -> None:
    shape = make_object(7, Request("robot", "red", "yellow", "checks")).shape
    made = tracing.render(shape, ORBIT[:1], FOV_DEG, 64)
    expected, _ = sdf.render(shape, ORBIT[:1], FOV_DEG, 64)
    differs = (made[:, :3] * made[:, 3:] - expected[:, :3] * expected[:, 3:]).abs().amax(1)
    assert differs.median() < 1e-4
    assert differs.mean() < 0.02


def test_images_are_kept_and_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "SHARD", 3)
    monkeypatch.setattr(pictures, "SIZE_PX", 16)
    first = pictures.load(tmp_path, 0, 6)
    monkeypatch.setattr(pictures, "render", None)  # nothing may be rendered again
    again = pictures.load(tmp_path, 0, 6)
    assert again.items == first.items and len(again) == 6
    assert [item.caption == "" for item in again.items] == [False, False, True] * 2
    shape, _ = pictures.draw(4)
    expected = tracing.render(shape, again.cameras[3:4], FOV_DEG, 16)[0]
    assert (again.image(4, 3).float() / 255 - expected).abs().max() <= 0.51 / 255
    named = again.where(lambda item: bool(item.caption))
    assert torch.equal(named.image(3, 2), again.image(4, 2)) and len(named) == 4

    photo = again.items[4].photos[1]
    expected = tracing.render(shape, photo.camera[None], photo.fov_deg, 16)[0]
    made = again.image(4, pictures.VIEWS + 1).float() / 255
    assert (made - expected).abs().max() <= 0.51 / 255
