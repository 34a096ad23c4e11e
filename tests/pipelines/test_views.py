"""The sampling loop: seeds, prompts, cameras and 3D-aware steps each change what they should."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.pipelines import latents, orbits, reconstruction
from backend.pipelines.conditioning import condition, condition_on_image, condition_on_text
from backend.pipelines.denoise import Sampling, denoise
from backend.pipelines.model import ViewsModel
from backend.pipelines.noise import initial_noise
from backend.shared.protocol import DioramaError
from tests import tiny


@torch.no_grad()
def sample(model: ViewsModel, prompt: str = "a red mushroom", seed: int = 1, **changes) -> Tensor:
    cameras = changes.pop("cameras", orbits.view_cameras(model.settings, 8))
    options = {"steps": 4, "guidance": 2.0, "three_d_aware": (0.5,)} | changes
    on_step = options.pop("on_step", None)
    noise = initial_noise(model, len(cameras), seed)
    conditioning = condition_on_text(model, [prompt])
    return denoise(model, conditioning, noise, cameras, Sampling(**options), on_step=on_step)


def test_same_seed_gives_the_same_bytes(tiny_model: ViewsModel) -> None:
    assert torch.equal(sample(tiny_model), sample(tiny_model))
    assert not torch.allclose(sample(tiny_model), sample(tiny_model, seed=2))


def test_prompt_and_cameras_matter(tiny_model: ViewsModel) -> None:
    plain = sample(tiny_model)
    assert not torch.allclose(plain, sample(tiny_model, "a blue car"))
    raised = orbits.view_cameras(tiny_model.settings, 8)
    raised[:, 2, 3] += 0.3
    assert not torch.allclose(plain, sample(tiny_model, cameras=raised))


def test_three_d_aware_steps_happen_when_they_should(tiny_model: ViewsModel) -> None:
    decoded: list[int] = []
    counting = dataclasses.replace(tiny_model)
    object.__setattr__(counting, "decode", lambda z: (decoded.append(len(z)), tiny_model.decode(z))[1])
    order: list[int] = []
    sample(counting, steps=8, three_d_aware=(0.25, 0.75), on_step=lambda i, _: order.append(len(decoded)))
    assert order == [0, 0, 1, 1, 1, 2, 2, 2]  # in the third step and in the sixth: two are to follow
    assert decoded == [8, 8]  # the four input views of both branches
    assert not torch.allclose(sample(tiny_model), sample(tiny_model, three_d_aware=()))


def test_without_guidance_the_negative_prompt_is_not_heard(tiny_model: ViewsModel) -> None:
    other = dataclasses.replace(
        tiny_model, settings=dataclasses.replace(tiny_model.settings, negative_prompt="a blue car")
    )
    for guidance, heard in ((1.0, False), (3.0, True)):
        # Without 3D-aware steps: their thresholds can make much of a rounding error.
        one, two = (sample(each, guidance=guidance, three_d_aware=()) for each in (tiny_model, other))
        assert ((one - two).abs().max() > 1e-3) == heard


def test_estimate_of_the_clean_views_ends_as_the_result(tiny_model: ViewsModel) -> None:
    seen: list[Tensor] = []
    result = sample(tiny_model, steps=6, three_d_aware=(), on_step=lambda _, x0: seen.append(x0))
    assert len(seen) == 6
    assert (seen[-1] - result).abs().max() < 0.1 * (seen[0] - result).abs().max() + 1e-3


def test_a_step_can_be_the_last(tiny_model: ViewsModel) -> None:
    class Cancelled(Exception):
        """As when somebody presses Cancel."""

    done: list[int] = []

    def stop(i: int, _: Tensor) -> None:
        done.append(i)
        raise Cancelled

    with pytest.raises(Cancelled):
        sample(tiny_model, on_step=stop)
    assert done == [1]


@pytest.mark.parametrize(("count", "seen"), [(8, (0, 2, 4, 6)), (24, (0, 6, 12, 18)), (3, (0, 1, 2))])
def test_reconstructor_sees_evenly_spaced_views(
    tiny_model: ViewsModel, count: int, seen: tuple[int, ...]
) -> None:
    assert reconstruction.input_views(tiny_model, count) == seen


@torch.no_grad()
def test_any_number_of_views_becomes_splats(tiny_model: ViewsModel) -> None:
    cameras = orbits.view_cameras(tiny_model.settings, 6)
    images = tiny_model.decode_frames(sample(tiny_model, cameras=cameras, steps=2)[0])[:, 0]
    gaussians = reconstruction.views_to_gaussians(tiny_model, images[None], cameras)
    assert gaussians.means.shape == (1, 4 * 16 * 16, 3)
    rgba = reconstruction.matte(tiny_model, images, gaussians, cameras)
    assert rgba.shape == (6, 4, 32, 32)
    assert rgba.min() >= 0
    assert rgba.max() <= 1


def test_only_cameras_unlike_the_trained_ones_are_unusual(tiny_model: ViewsModel) -> None:
    for elevation_deg, radius, words in (
        (None, None, ()),
        (19.0, 2.05, ()),
        (10.5, None, ()),
        (25.0, None, ("elevation 25° (trained: 15°)",)),
        (None, 2.6, ("radius 2.6 m (trained: 1.9 m)",)),
        (-40.0, 1.0, ("elevation -40°", "radius 1 m")),
    ):
        said = orbits.unusual_orbit(tiny_model.settings, elevation_deg, radius)
        assert bool(said) == bool(words)
        assert all(word in said for word in words)


def test_unknown_words_are_found_in_their_order(tiny_model: ViewsModel) -> None:
    assert tiny_model.unknown_words("A Red Foo mushroom, bar") == ["Foo", ",", "bar"]
    assert tiny_model.unknown_words("a blue car") == []


@torch.no_grad()
def test_image_decides_what_an_image_model_makes(tiny_image_model: ViewsModel) -> None:
    cameras = orbits.view_cameras(tiny_image_model.settings, 4)
    noise = initial_noise(tiny_image_model, 4, 1)
    images = torch.rand(2, 4, 32, 32, generator=torch.Generator().manual_seed(5))
    one, again, other = (
        denoise(
            tiny_image_model,
            condition_on_image(tiny_image_model, image),
            noise,
            cameras,
            Sampling(2, 2.0, (0.5,)),
        )
        for image in (images[0], images[0], images[1])
    )
    assert one.shape == (1, 4, 1, 4, 8, 8)
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)


@torch.no_grad()
@pytest.mark.parametrize("told", [True, False])
def test_prompt_beside_an_image_counts_for_models_that_learnt_both(
    tiny_image_model: ViewsModel, told: bool
) -> None:
    settings = dataclasses.replace(tiny_image_model.settings, prompt_beside_image=told)
    model = dataclasses.replace(tiny_image_model, settings=settings)
    photo = np.ones((40, 30, 4), np.float32)
    red, blue = (condition(model, prompt, photo) for prompt in ("a red car", "a blue car"))
    assert torch.equal(red.context[0], blue.context[0])
    assert torch.equal(red.context[1], blue.context[1]) != told
    without, with_image = red.image["image_latents"]
    assert with_image.any()
    assert torch.equal(
        without, torch.zeros_like(with_image) if told else with_image
    )  # guided away from neither


def test_words_spelt_nearly_like_known_ones_are_taken_for_them(tiny_model: ViewsModel) -> None:
    assert tiny_model.with_known_words("a Rad mushrom, bar") == (
        "a Rad mushroom, bar",
        {"mushrom": "mushroom"},
    )
    assert tiny_model.with_known_words("a blue car") == ("a blue car", {})


@torch.no_grad()
def test_image_model_without_an_image_makes_what_its_prompt_says(tiny_image_model: ViewsModel) -> None:
    cameras = orbits.view_cameras(tiny_image_model.settings, 4)
    noise = initial_noise(tiny_image_model, 4, 1)
    given = [condition_on_text(tiny_image_model, [prompt]) for prompt in ("a red mushroom", "a blue car")]
    one, other = (denoise(tiny_image_model, some, noise, cameras, Sampling(2, 2.0)) for some in given)
    assert one.shape == (1, 4, 1, 4, 8, 8)
    assert not torch.equal(one, other)


@torch.no_grad()
def test_autoencoder_of_blocks_of_pixels_gives_back_images_of_the_same_size() -> None:
    coder = tiny.autoencoder(1, in_channels=12, out_channels=12).eval()
    images = torch.rand(2, 3, 32, 48)
    encoded = latents.encode(coder, images)
    assert latents.latent_size(coder.config, 32) == (4, 8, 8)
    assert encoded.shape == (2, 4, 8, 12)
    assert latents.decode(coder, encoded).shape == images.shape
    blocks = latents.unshuffled(coder, images)
    assert torch.equal(latents.shuffled(coder, blocks), images)


@torch.no_grad()
def test_transparent_pixels_of_an_image_are_the_background_of_the_views(tiny_image_model: ViewsModel) -> None:
    clear = torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(5))
    clear[3] = 0
    plain = torch.ones(4, 32, 32)
    plain[:3] = tiny_image_model.settings.rendering.background
    one, two = (condition_on_image(tiny_image_model, image).image for image in (clear, plain))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not one["image_embeddings"][0].any()  # the unconditional row has not seen it


def test_text_model_says_that_it_takes_no_images(tiny_model: ViewsModel) -> None:
    with pytest.raises(DioramaError, match="text"):
        condition_on_image(tiny_model, torch.ones(4, 32, 32))
