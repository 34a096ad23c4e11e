"""Muon's steps have all directions equally long, of matrices between features alone, and lead down."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from backend.training.muon import Muon, hidden_matrices, orthogonal


@pytest.mark.parametrize(("capabilities", "rounding"), [({}, 1e-4), ({"avx512_bf16": True}, 2e-2)])
def test_all_singular_values_come_near_one_and_the_directions_stay(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], rounding: float
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    generator = torch.Generator().manual_seed(0)
    for shape in ((8, 30), (30, 8)):
        u, _, v = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
        matrix = u @ torch.diag(torch.logspace(0, -1.5, 8)) @ v  # 30 times as long in one as in another
        (made,) = orthogonal(matrix[None])
        values = torch.diagonal(u.T @ made @ v.T)
        assert ((values > 0.6) & (values < 1.3)).all()
        torch.testing.assert_close(u @ torch.diag(values) @ v, made, atol=rounding, rtol=0)


def test_a_step_is_as_large_as_one_of_adam_and_against_the_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((24, 96), (16, 8, 3, 3)):
        weight = nn.Parameter(torch.zeros(shape))
        weight.grad = torch.randn(shape, generator=generator)
        optimizer = Muon([weight], lr=1e-2, weight_decay=0)
        optimizer.step()
        rms = weight.detach().square().mean().sqrt().item()
        assert 0.1e-2 < rms < 0.3e-2  # AdamW's are about 0.2 of the rate
        assert (weight.detach() * weight.grad).sum() < 0


def test_a_weight_without_a_gradient_stays_and_a_decayed_one_shrinks() -> None:
    alone, decayed = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))
    decayed.grad = torch.zeros(4, 4)
    Muon([alone, decayed], lr=0.5, weight_decay=0.1).step()
    assert torch.equal(alone.detach(), torch.ones(4, 4))
    torch.testing.assert_close(decayed.detach(), torch.full((4, 4), 0.95))


def test_words_vectors_and_what_sees_or_makes_images_are_left_to_adam() -> None:
    network = nn.ModuleDict(
        {
            "words": nn.Embedding(5, 8),
            "conv_in": nn.Conv2d(3, 8, 3),
            "middle": nn.Conv2d(8, 8, 3),
            "linear": nn.Linear(8, 4),
            "norm": nn.LayerNorm(4),
            "conv_out": nn.Conv2d(8, 3, 3),
        }
    )
    chosen = {id(weight) for weight in hidden_matrices(network)}
    names = {name for name, weight in network.named_parameters() if id(weight) in chosen}
    assert names == {"middle.weight", "linear.weight"}
