"""Attention in blocks is torch's attention, and is taken where it is known to be faster."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from backend.pipelines import attention, devices
from backend.pipelines.attention import attention_in_blocks, attention_of
from backend.pipelines.plan import CPU, Plan
from backend.pipelines.planned import planned
from backend.shared.progress import Progress


def random_heads(rows: int = 40, columns: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """A query, keys and values of 2 x 3 heads, as slices of what a projection gives."""
    generator = torch.Generator().manual_seed(4)
    sizes = (rows, 16), (columns, 16), (columns, 8)
    made = [torch.randn(2, length, 3 * width, generator=generator).bfloat16() for length, width in sizes]
    query, key, value = (some.unflatten(2, (3, -1)).transpose(1, 2) for some in made)
    return query, key, value


@pytest.mark.parametrize("scores", [1, 24 * 7, 24 * 40, 24 * 40 * 4, 2**21])  # rows, heads, or all at once
@pytest.mark.parametrize("scale", [None, 0.5])
def test_blocks_of_any_size_give_the_attention_of_torch(
    monkeypatch: pytest.MonkeyPatch, scores: int, scale: float | None
) -> None:
    monkeypatch.setattr(attention, "SCORES", scores)
    heads = random_heads()
    expected = F.scaled_dot_product_attention(*(some.float() for some in heads), scale=scale)
    made = attention_in_blocks(*heads, scale=scale)
    assert (made.shape, made.dtype) == (expected.shape, torch.bfloat16)
    assert (made - expected).norm() < 0.01 * expected.norm()


def test_attention_with_a_mask_or_in_float32_is_left_to_torch() -> None:
    heads = random_heads()
    mask = (torch.arange(24) < 20).expand(40, 24)
    for given, told in (
        (heads, {"attn_mask": mask}),
        (random_heads(24), {"is_causal": True}),
        ([some.float() for some in heads], {}),
    ):
        assert torch.equal(
            attention_in_blocks(*given, **told), F.scaled_dot_product_attention(*given, **told)
        )


def test_gradients_pass_through_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SCORES", 24 * 7)
    gradients = []
    for attend in (attention_in_blocks, F.scaled_dot_product_attention):
        heads = [some.detach().requires_grad_() for some in random_heads()]
        attend(*heads).float().square().sum().backward()
        gradients.append([some.grad.float() for some in heads])
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours - theirs).norm() < 0.03 * theirs.norm()


@pytest.mark.skipif(not devices.computes_bfloat16(), reason="this CPU would imitate bfloat16")
def test_blocks_give_the_same_bytes_on_any_number_of_threads() -> None:
    heads = random_heads(1100, 2100)  # more than one block
    expected, before = attention_in_blocks(*heads), torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        same = torch.equal(attention_in_blocks(*heads), expected)
        torch.set_num_threads(before)
        assert same, threads


@dataclass
class AnyWork:
    """Work that any memory is enough for."""

    what: str = "a test"
    less: str = ""

    def needed_bytes(self, plan: Plan) -> int:
        return 0


@pytest.mark.parametrize(
    ("found", "ours"),
    [
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": True, "amx_bf16": True}, False),  # torch has a kernel of its own for it
        ({"bf16": True}, False),  # Arm's, which has not been measured
        ({}, False),
    ],
)
def test_work_that_is_planned_attends_in_blocks_where_they_were_measured(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, bool], ours: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    monkeypatch.setattr(attention, "attention_in_blocks", lambda *_, **__: "blocks")
    heads = random_heads()
    made: object = planned(AnyWork(), lambda plan: F.scaled_dot_product_attention(*heads), Progress())
    assert isinstance(made, str) is ours
    for plan in (Plan(CPU), Plan(torch.device("cuda"), torch.float16)):
        with attention_of(plan):
            assert isinstance(F.scaled_dot_product_attention(*heads), Tensor)
