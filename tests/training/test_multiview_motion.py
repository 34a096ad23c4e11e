"""The moving starter's stages: each trains its own layers, and the judge of motions tells clips apart."""

from __future__ import annotations

import pytest
import torch

from backend.cameras import orbit
from backend.models.multiview_motion_unet import MultiViewMotionUNet
from backend.pipelines import schedules
from backend.starter import motion_data
from backend.starter.motion_judge import MotionClassifier
from backend.training import multiview_motion, text
from backend.training.denoiser import CAPTION_DROPOUT
from backend.training.multiview_motion import (
    ALIGNMENT,
    IMAGES,
    MOTION,
    MULTIVIEW,
    ClipsAndSidesObjective,
    MotionStage,
    MultiViewMotionObjective,
)
from tests.tiny import moving_unet

VIEWS, FRAMES = 4, 3


@pytest.fixture
def network() -> MultiViewMotionUNet:
    return moving_unet(busy=("proj_out", "camera_embedding"))


def batch(stage: MotionStage, tokens: torch.Tensor):
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(5, VIEWS, FRAMES, 4, 8, 8, generator=generator).half()
    cameras = orbit(VIEWS, 15.0, 1.9)
    return motion_data.batch_of(latents, cameras, tokens, torch.zeros_like(tokens[0]), stage, generator, 4)


@pytest.mark.parametrize(
    ("stage", "learns", "frozen"),
    [
        (
            IMAGES,
            ("resnets", "attentions", "time_embedding"),
            ("motion_modules", "camera_embedding"),
        ),
        (MULTIVIEW, ("resnets", "attentions", "camera_embedding"), ("motion_modules",)),
        (
            MOTION,
            ("motion_modules",),
            ("align_", "resnets", ".attentions", "camera_embedding"),
        ),
        (ALIGNMENT, ("align_",), ("resnets", ".attentions", "proj_", "camera_embedding")),
    ],
)
def test_each_stage_teaches_its_own_layers(network, stage, learns, frozen) -> None:
    tokenizer = text.make_tokenizer(["a", "fish", "swimming"])
    encoder = text.make_text_encoder(tokenizer, 16)
    objective = MultiViewMotionObjective(network, encoder, schedules.STARTER, stage)
    given = batch(stage, text.tokens_of(tokenizer, ["a fish swimming"] * 5))
    assert given["latents"].shape[1:3] == (VIEWS if stage.multiview else 1, FRAMES if stage.motion else 1)
    objective(**given).backward()
    moved = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    for part in learns:
        assert any(part in name for name in moved), part
    for part in frozen:
        assert not any(part in name for name in moved), part
    taught = any(p.grad is not None for p in encoder.parameters())
    assert taught == (not stage.motion)


def test_clips_and_sides_teach_all_layers_but_those_of_alignment(network) -> None:
    tokenizer = text.make_tokenizer(["a", "fish", "swimming"])
    encoder = text.make_text_encoder(tokenizer, 16)
    tokens = text.tokens_of(tokenizer, ["a fish swimming"] * 5)
    clips, sides = batch(MOTION, tokens), batch(MULTIVIEW, tokens)

    alone = [
        MultiViewMotionObjective(network, encoder, schedules.STARTER, stage)(**given)
        for stage, given in ((MOTION, clips), (MULTIVIEW, sides))
    ]
    objective = ClipsAndSidesObjective(network, encoder, schedules.STARTER)
    given = {f"clips.{name}": values for name, values in clips.items()}
    given |= {f"sides.{name}": values for name, values in sides.items()}
    loss = objective(**given)
    torch.testing.assert_close(loss, alone[0] + multiview_motion.SIDES * alone[1])

    loss.backward()
    still = {name for name, p in network.named_parameters() if p.grad is None}
    assert still and all(".align_" in name for name in still)
    assert len(still) == sum(".align_" in name for name, _ in network.named_parameters())
    assert all(p.grad is not None for p in encoder.parameters())


def test_model_of_sides_sees_every_fourth_sample_as_single_images(network, monkeypatch) -> None:
    tokenizer = text.make_tokenizer(["a", "fish"])
    encoder = text.make_text_encoder(tokenizer, 16)
    objective = MultiViewMotionObjective(network, encoder, schedules.STARTER, MULTIVIEW).eval()
    given = batch(MULTIVIEW, text.tokens_of(tokenizer, ["a fish"] * 5))
    seen = []
    network.register_forward_pre_hook(
        lambda _, args: seen.append((tuple(args[0].shape[:2]), args[3] is not None))
    )
    loss = objective(**given)
    assert sorted(seen) == [((3, VIEWS), True), ((VIEWS, 1), False)]

    monkeypatch.setattr(multiview_motion, "ALONE", 0.0)
    together = objective(**{name: values[1:] for name, values in given.items()})
    images = MultiViewMotionObjective(network, encoder, schedules.STARTER, IMAGES).eval()
    alone = images(
        latents=given["latents"][0][:, None],
        noise=given["noise"][0][:, None],
        cameras=given["cameras"][0][:, None],
        tokens=given["tokens"][:1].expand(VIEWS, -1),
        timesteps=given["timesteps"][:1].expand(VIEWS),
    )
    torch.testing.assert_close(loss, (alone + 3 * together) / 4)


def test_batches_are_whole_clips_whose_caption_is_dropped_now_and_then() -> None:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(5, VIEWS, FRAMES, 1, 1, 1, generator=generator)
    cameras = orbit(VIEWS, 15.0, 1.9)
    tokens, nothing = torch.arange(1, 6)[:, None], torch.zeros(1, dtype=torch.long)
    given = motion_data.batch_of(latents, cameras, tokens, nothing, ALIGNMENT, generator, 200)
    numbers = (given["latents"].flatten(1)[:, :1] == latents.flatten(1)[:, 0]).int().argmax(1)
    assert torch.equal(given["latents"], latents[numbers])
    assert torch.equal(given["cameras"], cameras.expand(200, -1, -1, -1))
    dropped = given["tokens"][:, 0] == 0
    assert torch.equal(given["tokens"][~dropped], tokens[numbers[~dropped]])
    assert 0.5 * CAPTION_DROPOUT < dropped.float().mean() < 2 * CAPTION_DROPOUT


def test_no_timestep_is_beyond_the_schedule(monkeypatch) -> None:
    largest = 1 - torch.arange(1, 9) * 2.0**-24  # that are drawn from 0..1
    monkeypatch.setattr(torch, "rand", lambda size, generator: largest)
    assert motion_data._timesteps(8, True, torch.Generator()).tolist() == [999] * 8


def test_judge_of_motions_learns_to_tell_left_and_right_from_up_and_down() -> None:
    torch.manual_seed(0)
    judge = MotionClassifier(("across", "up"))
    clips = torch.zeros(2, 1, 8, 3, 48, 48)
    for frame in range(8):
        clips[0, 0, frame, :, 20:28, 4 * frame : 4 * frame + 8] = 1
        clips[1, 0, frame, :, 4 * frame : 4 * frame + 8, 20:28] = 1
    objective = motion_data.MotionClassifierObjective(judge)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3)
    for _ in range(25):
        optimizer.zero_grad()
        objective(clips[:, 0], torch.tensor([0, 1])).backward()
        optimizer.step()
    assert judge.eval().name(clips) == ["across", "up"]
