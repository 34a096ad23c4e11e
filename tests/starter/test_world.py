"""The small world: the same seed is the same object, from every camera, under a caption made of its words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from backend.cameras import orbit, project
from backend.pipelines.latents import decode, encode, latent_size
from backend.starter import autoencoder, dataset, sdf, world
from backend.training import text
from tests import tiny


@pytest.mark.parametrize("category", world.CATEGORIES)
def test_every_category_stands_whole_in_the_image(category: str) -> None:
    item = world.make_object(11, category)
    rgba, depth = sdf.render(item.shape, orbit(4, 15.0, dataset.RADIUS), dataset.FOV_DEG, 48)
    alpha = rgba[:, 3]
    assert 0.05 < alpha.mean() < 0.7
    edge = torch.cat([alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1]], 1)
    assert edge.max() == 0
    assert (depth[alpha > 0.99] - dataset.RADIUS).abs().max() < 0.75


def test_seed_decides_everything() -> None:
    assert world.make_object(5) == world.make_object(5)
    assert len({world.make_object(seed).caption for seed in range(40)}) > 30


def test_captions_are_made_of_the_vocabulary() -> None:
    words = world.vocabulary()
    tokenizer = text.make_tokenizer(words)
    captions = [world.make_object(seed).caption for seed in range(60)]
    tokens = text.tokens_of(tokenizer, captions)
    assert not (tokens == tokenizer.unk_token_id).any()
    assert not (tokens[:, -1] != tokenizer.pad_token_id).any()  # none is cut off


def test_images_agree_with_their_cameras() -> None:
    """A sphere off the middle appears where the camera's matrices put it."""
    at = (0.2, -0.25, 0.15)
    shape = sdf.Shape((sdf.Solid("ellipsoid", (0.1, 0.1, 0.1), at, (1.0, 0.0, 0.0)),))
    cameras = orbit(5, 20.0, 2.0)
    rgba, _ = sdf.render(shape, cameras, 40.0, 64)
    where = project(torch.tensor([at]), cameras, 40.0, 64, 64)[0][:, 0]
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    alpha = rgba[:, 3]
    middle = torch.stack([(alpha * axis).sum((1, 2)) / alpha.sum((1, 2)) for axis in (x, y)], 1)
    assert (middle - 32 * (where + 1)).abs().max() < 0.25


def test_rendered_objects_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "SHARD", 2)
    monkeypatch.setattr(dataset, "SIZE_PX", 16)
    first = dataset.load(tmp_path, range(3))
    monkeypatch.setattr(dataset, "render", None)  # nothing may be rendered again
    again = dataset.load(tmp_path, range(3))
    assert len(again) == 3
    assert torch.equal(first.rgba, again.rgba)
    assert again.captions == [world.make_object(seed).caption for seed in range(3)]
    assert not list(tmp_path.glob("*.partial"))


def test_autoencoder_learns_from_parts_of_all_images() -> None:
    world = torch.full((2, 4, 72, 80), 255, dtype=torch.uint8)
    world[0, :3] = 0
    images = autoencoder.batch_of(world, torch.Generator().manual_seed(0), 60)["images"]
    assert images.shape == (60, 3, 48, 48)
    assert 20 < int((images.mean((1, 2, 3)) > 0.5).sum()) < 40


def test_crisp_decoder_begins_with_the_small_images_enlarged() -> None:
    small, crisp = tiny.autoencoder(1), tiny.autoencoder(1, out_channels=12)
    autoencoder.begin_crisp(crisp, small)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    latents = encode(crisp, images)
    reduced = torch.nn.functional.avg_pool2d(images, 2)
    assert torch.equal(latents, encode(small, reduced))
    assert latents.shape[1:] == latent_size(crisp.config, 32) == latent_size(small.config, 16)
    enlarged = decode(small, latents).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(decode(crisp, latents), enlarged)


def test_more_objects_than_were_kept_are_rendered_and_none_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "SHARD", 2)
    monkeypatch.setattr(dataset, "SIZE_PX", 8)
    dataset.load(tmp_path, range(3))
    assert dataset.load(tmp_path, range(5)).captions == [world.make_object(seed).caption for seed in range(5)]
