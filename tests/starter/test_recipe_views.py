"""The recipe of the starter: batches say what they should, and stages run through to weights."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from backend.gaussians.color import over
from backend.models.lgm import LGM
from backend.models.videomv_unet import VideoMVUNet
from backend.pipelines import model as models
from backend.pipelines.latents import encode
from backend.shared.model_store import STARTER
from backend.starter import autoencoder, evaluate_views, recipe_prior, recipe_views
from backend.starter.dataset import GREY
from backend.starter.enlarged import enlarge_reconstructor, strengthen_image, twice_as_large
from backend.starter.objects import cropped, encoded, pictures, reconstructed
from backend.starter.objects.vocabulary import CATEGORIES, COLORS, is_held_out
from backend.training import reconstructor
from backend.training.loop import TrainingPlan
from backend.training.text import tokens_of
from tests import tiny

OBJECTS, SIZE_PX = 6, 64


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[recipe_views.Recipe]:
    """With the autoencoder's stage done, of few objects in small images."""
    patch = pytest.MonkeyPatch()
    patch.setattr(pictures, "SHARD", OBJECTS)
    prior = tmp_path_factory.mktemp("prior")
    recipe_prior.Recipe(prior / "work").write(prior)  # untrained
    patch.setattr(recipe_views, "PRIOR", prior)
    patch.setattr(recipe_views, "OBJECTS", OBJECTS)
    patch.setattr(recipe_views, "HELD_OUT", OBJECTS)
    patch.setattr(recipe_views, "JUDGED", OBJECTS)
    one_step = {name: (2, TrainingPlan(1, 1e-3)) for name in recipe_views.PLANS}
    patch.setattr(recipe_views, "PLANS", one_step)
    patch.setattr(pictures, "SIZE_PX", SIZE_PX)
    patch.setattr(cropped, "CROP_PX", 48)
    patch.setattr(recipe_views, "DECODED_VIEWS", 2)
    rendering = dataclasses.replace(recipe_views.SETTINGS.rendering, size_px=SIZE_PX)
    settings = dataclasses.replace(recipe_views.SETTINGS, steps=2, size_px=SIZE_PX, rendering=rendering)
    patch.setattr(recipe_views, "SETTINGS", settings)
    recipe = recipe_views.Recipe(tmp_path_factory.mktemp("work"))
    recipe.run("autoencoder")
    yield recipe
    patch.undo()


def batch_of(small: recipe_views.Recipe, views: int, size: int) -> dict[str, torch.Tensor]:
    return small._denoiser_batch((views,), torch.Generator().manual_seed(0), size)


def test_objects_are_asked_for_by_text_or_image_or_both_or_neither(small: recipe_views.Recipe) -> None:
    batch = batch_of(small, 4, 400)
    by_image = batch["image_latents"].flatten(1).any(1)
    by_text = (batch["tokens"] != tokens_of(small.tokenizer, [""])[0]).any(1)
    ways = set(zip(by_image.tolist(), by_text.tolist(), strict=True))
    assert ways == {(True, False), (False, True), (True, True), (False, False)}
    assert batch["has_meaning"][~by_image].sum() == 0  # no image, no meaning
    assert 0 < batch["has_meaning"].mean() < 1


def test_views_begin_at_the_azimuth_of_the_image_that_is_given(
    small: recipe_views.Recipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(encoded, "_ORDERS", [(0, 1, 2)])
    monkeypatch.setattr(encoded, "EXCHANGES", 1)
    small = copy.copy(small)
    small.__dict__["encoded"] = encoded.encoded(small.world, small.autoencoder, tmp_path / "latents")
    batch, world = batch_of(small, 8, 20), small.world
    assert torch.equal(batch["cameras"][0], world.cameras)
    every = torch.stack([torch.stack([world.image(i, v) for v in range(10)]) for i in range(len(world))])
    every = over(every.float() / 255, GREY)
    coded = encode(small.autoencoder, torch.cat([every, every.flip(-1)]).flatten(0, 1)).unflatten(0, (-1, 10))
    same = partial(torch.isclose, rtol=1e-3, atol=1e-4)  # they are kept in half precision
    mirrored, exact = set(), set()
    for i in batch["image_latents"].flatten(1).any(1).nonzero().squeeze(1).tolist():
        found, image = same(coded, batch["image_latents"][i]).all((2, 3, 4)).nonzero()[0].tolist()
        number, mirror = found % len(world), found >= len(world)
        exact.add(image < pictures.VIEWS)
        view = image if image < pictures.VIEWS else world.items[number].photos[image - pictures.VIEWS].view
        seen = every[number, image].flip(-1) if mirror else every[number, image]
        reduced = F.interpolate(seen[None], batch["photos"].shape[-2:], mode="bilinear", antialias=True)[0]
        torch.testing.assert_close(batch["photos"][i], reduced, atol=0.6 / 255, rtol=0)
        around = [(view + (-k if mirror else k)) % pictures.VIEWS for k in range(pictures.VIEWS)]
        assert same(batch["latents"][i], coded[found, around].transpose(0, 1)).all()
        mirrored.add(mirror)
    assert mirrored == exact == {True, False}


def test_some_batches_have_more_objects_from_fewer_sides(small: recipe_views.Recipe) -> None:
    batch = batch_of(small, 1, 5)
    assert batch["latents"].shape[:3] == (40, recipe_views.LATENT_CHANNELS, 1)
    cameras = small.world.cameras
    azimuths = (batch["cameras"][:, 0, None] == cameras).all((2, 3)).nonzero()[:, 1]
    assert len(set(azimuths.tolist())) > 2
    assert not batch["image_latents"].any() and not batch["has_meaning"].any()
    batch = batch_of(small, 4, 5)
    assert batch["cameras"].shape[:2] == (10, 4)
    azimuths = (batch["cameras"][:, 0, None] == cameras).all((2, 3)).nonzero()[:, 1]
    by_image = batch["image_latents"].flatten(1).any(1)
    assert (azimuths[by_image] == 0).all() and set(azimuths[~by_image].tolist()) == {0, 1}


def test_strengthened_image_passes_as_it_is_and_its_tokens_say_more(small: recipe_views.Recipe) -> None:
    unet = recipe_views.Recipe(small.work).unet.eval()
    generator = torch.Generator().manual_seed(0)
    nothing = (
        torch.zeros(1, recipe_views.LATENT_CHANNELS, 12, 12),
        torch.randn(1, 1, 128, generator=generator),
    )
    image = torch.randn(nothing[0].shape, generator=generator), torch.randn(1, 1, 128, generator=generator)
    layers = unet.image_latents_context_embedding, unet.context_embedding

    def said() -> list[torch.Tensor]:  # in the middle, where no padding is seen
        pairs = zip(layers, image, nothing, strict=True)
        return [(layer(a) - layer(b))[..., 3:-3].detach() for layer, a, b in pairs]

    quiet = unet.context_embedding(nothing[1])
    before = said()
    strengthen_image(unet, *nothing)
    for old, new, factor in zip(before, said(), (2.5, 8), strict=True):
        torch.testing.assert_close(new, factor * old, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(unet.context_embedding(nothing[1]), quiet, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(unet.image_latents_proj_in(image[0]), image[0], rtol=0.25, atol=0.3)
    noisy, beside = unet.conv_in.weight.chunk(2, 1)
    assert torch.equal(beside, 0.5 * noisy) and noisy.any()


def test_crops_hold_a_part_of_the_object(small: recipe_views.Recipe) -> None:
    images = cropped.batch_of(small.world, torch.Generator().manual_seed(0), 20)["images"]
    assert images.shape == (20, 3, cropped.CROP_PX, cropped.CROP_PX)
    assert ((images - 0.5).abs().amax((1, 2, 3)) > 0.02).all()


def test_crops_of_images_and_of_their_latents_are_of_the_same_place() -> None:
    latents = torch.rand(2, 5, 12, 12, generator=torch.Generator().manual_seed(0))
    images = latents[:, :3].repeat_interleave(16, -1).repeat_interleave(16, -2)
    places = set()
    for seed in range(9):
        some = cropped.cropped(images, latents, torch.Generator().manual_seed(seed))
        assert some["images"].shape[-2:] == (cropped.CROP_PX, cropped.CROP_PX)
        assert torch.equal(some["images"][..., ::16, ::16], some["latents"][:, :3])
        places.add(some["latents"][0, 0, 0, 0].item())
    assert len(places) > 4


def test_sharpness_is_one_for_the_same_image_and_less_for_a_blurred_one() -> None:
    image = (torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    blurred = torch.nn.functional.avg_pool2d(image, 3, stride=1, padding=1)
    assert autoencoder.quality(image.clamp(0, 0.99), image)[1] == pytest.approx(0.98, abs=0.01)
    assert autoencoder.quality(blurred, image)[1] < 0.5


def test_images_are_encoded_once_and_in_more_colours_only_if_nameless(
    small: recipe_views.Recipe, tmp_path: Path
) -> None:
    path = tmp_path / "latents.safetensors"
    first = encoded.encoded(small.world, small.autoencoder, path)
    counts = first.first.diff().tolist()
    assert counts == [2 if item.caption else 2 * encoded.EXCHANGES for item in small.world.items]
    assert set(counts) == {2, 2 * encoded.EXCHANGES}
    again = encoded.encoded(small.world, tiny.autoencoder(1), path)  # by another that would encode otherwise
    assert torch.equal(first.latents, again.latents) and torch.equal(first.small, again.small)


def test_denoiser_begins_with_what_the_shipped_one_makes_of_views(small: recipe_views.Recipe) -> None:
    network = recipe_views.Recipe(small.work).unet.eval()
    shipped = VideoMVUNet.from_pretrained(recipe_views.PRIOR / "unet").float().eval()
    generator = torch.Generator().manual_seed(0)
    noisy, image = torch.randn(2, 1, recipe_views.LATENT_CHANNELS, 8, 12, 12, generator=generator)
    context = torch.randn(1, 9, 128, generator=generator)
    nothing = torch.zeros(1, 1, 128)
    known = small.known_channels
    cameras = small.world.cameras[None]
    with torch.no_grad():
        one = network(noisy, 500, context, cameras, image_latents=image[:, :, 0], image_embeddings=nothing)
        other = shipped(noisy[:, :known], 500, context, cameras)
    assert (one[:, :known] - other).square().mean() < 0.1 * other.square().mean()
    assert not one[:, known:].any()


def test_enlarged_reconstructor_begins_as_good_as_the_small_one(small: recipe_views.Recipe) -> None:
    generator = torch.Generator().manual_seed(1)
    batch = reconstructed.batch_of(small.held_out, generator, 3)
    large = batch | {
        "images": F.interpolate(batch["images"].flatten(0, 1), scale_factor=2).unflatten(0, (-1, 4))
    }
    before = LGM.from_pretrained(STARTER / "reconstructor").eval()
    rendering = recipe_views.SETTINGS.rendering
    path = small.work / "shown.png"
    new = twice_as_large(before.config).eval()
    enlarge_reconstructor(new, before)
    seen, old = (
        reconstructor.show(network, images, path, rendering, reconstructed.INPUT_VIEWS)
        for network, images in ((new, large), (before, batch))
    )
    assert seen > 14
    assert seen == pytest.approx(old, abs=1.5)


def test_a_third_of_the_judged_prompts_are_pairs_never_seen_together() -> None:
    asked = evaluate_views.prompts_to_judge(300)
    assert len(asked) == 300
    assert len(set(asked)) == 280  # all 80 of these pairs, and some of them twice
    assert sum(is_held_out(*pair) for pair in asked) == 100
    assert {category for category, _ in asked} == set(CATEGORIES)
    assert {color for _, color in asked} == set(COLORS)


def test_stages_run_through_to_weights_that_load_and_are_measured(
    small: recipe_views.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe_views, "PROMPTS", ("a red cat",))
    for stage in recipe_views.PLANS:
        if stage != "reconstructor":  # the same as its second stage, but for the images
            small.run(stage)
    small.write(tmp_path)
    assert not any(str(recipe_views.PRIOR) in path.read_text("utf-8") for path in tmp_path.rglob("*.json"))
    model = models.load(tmp_path)
    assert model.image_encoder is not None
    assert model.unet.config["joint_attention"]
    assert model.unknown_words("a red and blue striped cat with a party hat, 3d asset") == []
    monkeypatch.setattr(evaluate_views, "DIVERSE_PROMPTS", 1)
    monkeypatch.setattr(evaluate_views, "DIVERSE_SEEDS", 2)
    out = tmp_path / "evaluation"
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    for view in range(pictures.VIEWS):
        pixels = small.held_out.image(0, view).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / "photos" / "cat" / f"{view}.png")
    command = ["--weights", str(tmp_path), "--prompts", "3", "--images", "1", "--out", str(out)]
    command += ["--photos", str(tmp_path / "photos")]
    assert evaluate_views.main(command) == 0
    table = json.loads((out / "starter.json").read_text("utf-8"))
    assert table["true images, same judge: category"] in (0, 1)
    assert table["from one image: novel views against truth, dB"] > 3
    assert table["diversity of seeds, of that of true objects"] > 0
    assert (
        0
        <= table["from the first of these views"]["cat"]["silhouettes of the splats against truth, IoU"]
        <= 1
    )
