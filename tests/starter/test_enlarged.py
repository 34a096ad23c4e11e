"""An enlarged reconstructor makes at first of an image what the small one makes of it reduced."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from backend.models.lgm import LGM
from backend.pipelines.latents import decode, encode
from backend.starter.enlarged import (
    centre,
    enlarge_reconstructor,
    level,
    twice_as_large,
    with_more_channels,
)
from tests import tiny


def test_enlarged_reconstructor_begins_with_what_the_small_one_makes_of_reduced_images() -> None:
    torch.manual_seed(0)
    half = LGM(
        input_size=32,
        down_channels=(16, 32, 32),
        down_attention=(False, False, True),
        up_channels=(32, 32),
        up_attention=(True, False),
        layers_per_block=1,
        attention_heads=2,
        anchor="ray",
    )
    large = twice_as_large(half.config)
    enlarge_reconstructor(large, half)
    images = F.interpolate(torch.rand(4, 9, 8, 8), scale_factor=8, mode="bilinear")[None]
    with torch.no_grad():
        few = half(F.avg_pool2d(images[0], 2)[None])[0]  # [V, 14, h, w]
        many = F.avg_pool2d(large(images)[0], 2)
    places, scales = slice(0, 3), slice(4, 7)
    likeness = torch.corrcoef(torch.stack([x[:, places].flatten() for x in (few, many)]))[0, 1]
    assert likeness > 0.8  # two networks that know nothing of each other: 0
    assert (few - many)[:, scales].mean().exp().item() == pytest.approx(2, rel=0.1)  # four in place of one


def test_more_latent_channels_change_no_image_at_first_nor_when_they_are_levelled() -> None:
    torch.manual_seed(0)
    small = tiny.autoencoder(1)
    count = small.config["latent_channels"]
    large = with_more_channels(small, count + 5)
    images = torch.rand(6, 3, 32, 32)
    with torch.no_grad():
        latents = encode(large, images)
        torch.testing.assert_close(latents[:, :count], encode(small, images))
        assert latents[:, count:].std() > 0
        torch.testing.assert_close(decode(large, latents), decode(small, encode(small, images)))
        large.decoder.conv_in.weight += 0.1 * torch.randn_like(large.decoder.conv_in.weight)  # as if trained
        before = decode(large, latents)
        level(large, images, count)
        levelled = encode(large, images)
        torch.testing.assert_close(levelled[:, :count], latents[:, :count])
        torch.testing.assert_close(levelled[:, count:].std((0, 2, 3)), torch.ones(5))
        torch.testing.assert_close(levelled[:, count:].mean((0, 2, 3)), torch.zeros(5), atol=1e-5, rtol=0)
        torch.testing.assert_close(decode(large, levelled), before, atol=1e-4, rtol=1e-4)
        centre(large, images)
        middle = levelled.mean((0, 2, 3), keepdim=True)
        torch.testing.assert_close(encode(large, images), levelled - middle, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(decode(large, levelled - middle), before, atol=1e-4, rtol=1e-4)
