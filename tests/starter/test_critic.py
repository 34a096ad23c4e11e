"""The critic learns to tell images, the decoder to deceive it, and neither by the other's loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from backend.starter.critic import WEIGHT, Critic


def images(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def critic() -> Critic:
    torch.manual_seed(0)
    return Critic().eval()  # so that spectral norms stay as they are between two looks


def test_decoder_is_told_by_the_critic_as_loudly_as_planned(critic: Critic) -> None:
    last = nn.Conv2d(3, 3, 1)
    made = last(images(0))
    plain = (made - images(1)).abs().mean()
    critic.losses(made, images(1), plain, last.weight).backward()
    told = last.weight.grad
    made = last(images(0))
    (by_difference,) = torch.autograd.grad((made - images(1)).abs().mean(), last.weight)
    assert told is not None
    assert told.norm().item() == pytest.approx(WEIGHT * by_difference.norm().item(), rel=1e-4)
    more = last(images(0)) - 0.1 * torch.nn.functional.conv2d(images(0), told)
    assert critic(more).mean() > critic(last(images(0))).mean()  # it descends towards what passes for true


def test_critic_learns_nothing_from_being_deceived(critic: Critic) -> None:
    made, true = images(0).requires_grad_(), images(1)
    critic.losses(made, true, made.square().mean(), made).backward()
    learnt = [weight.grad for weight in critic.parameters()]
    critic.zero_grad()
    (torch.relu(1 - critic(true)).mean() + torch.relu(1 + critic(made.detach())).mean()).backward()
    for weight, both in zip(critic.parameters(), learnt, strict=True):
        torch.testing.assert_close(both, weight.grad)


def test_critic_tells_blurred_images_from_true_ones() -> None:
    torch.manual_seed(0)
    critic = Critic()
    optimizer = torch.optim.Adam(critic.parameters(), 3e-3)
    last = torch.ones(1, requires_grad=True)

    def blurred(seed: int) -> torch.Tensor:
        return last * nn.functional.avg_pool2d(images(seed), 5, stride=1, padding=2)

    for step in range(25):
        optimizer.zero_grad()
        critic.losses(blurred(step), images(step), last.square().sum(), last).backward()
        optimizer.step()
    assert critic(images(100)).mean() > 0.5 > -0.5 > critic(blurred(100)).mean()
