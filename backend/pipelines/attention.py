"""Attention on CPUs that compute in bfloat16: in blocks whose scores stay in the processor's caches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .plan import Plan

SCORES = 2**21  # of a block, 4 MiB: with half or twice as many it takes longer


def attention_of(plan: Plan) -> AbstractContextManager[object]:
    """A context in which networks of a plan attend in the fastest way that is known.

    On CPUs with AVX512-BF16 that is in blocks (figures: docs/speed.md). Others were not measured: for AMX
    torch has kernels of its own, and in float32 they are as fast as its matrix products.
    """
    has = torch.cpu.get_capabilities()
    known = bool(has.get("avx512_bf16")) and not has.get("amx_bf16")
    return (
        _InBlocks() if known and (plan.device.type, plan.dtype) == ("cpu", torch.bfloat16) else nullcontext()
    )


class _InBlocks(TorchFunctionMode):
    """Takes the place of torch's attention, whoever calls it: our networks or those of a library."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            func = attention_in_blocks
        return func(*args, **(kwargs or {}))


def attention_in_blocks(
    query: Tensor,  # [B, H, L, D]
    key: Tensor,  # [B, H, M, D]
    value: Tensor,  # [B, H, M, E]
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:  # [B, H, L, E]
    """torch's `scaled_dot_product_attention`, in blocks where it is plain and in bfloat16.

    Its scores are rounded to bfloat16; torch keeps those in float32.
    """
    if query.dtype != torch.bfloat16 or attn_mask is not None or dropout_p or is_causal or enable_gqa:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    rows, columns = query.shape[-2], key.shape[-2]
    rows_at_once, heads_at_once = max(1, SCORES // columns), max(1, SCORES // (rows * columns))
    queries = query.flatten(0, 1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    heads = zip(
        *(x.split(heads_at_once) for x in (queries, key.flatten(0, 1), value.flatten(0, 1))), strict=True
    )
    out = [
        torch.cat([torch.softmax(some @ k.mT, -1) @ v for some in q.split(rows_at_once, -2)], -2)
        for q, k, v in heads
    ]
    return torch.cat(out).unflatten(0, query.shape[:2])
