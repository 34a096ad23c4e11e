"""Muon: steps along the momentum of every weight matrix, with all of its directions equally long."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5
_RMS = 0.2  # of an AdamW update, which these are made as large as
_OUTERMOST = "conv_in.", "conv_out.", "patch_embedding."  # they see or make images, not features


class Muon(torch.optim.Optimizer):
    """As `torch.optim.Muon`, with convolutions as matrices of one row per output, and in full precision.

    torch's takes matrices alone, in bfloat16, which takes twenty times as long where a CPU imitates it.

    Source: https://kellerjordan.github.io/posts/muon; the rate, which is AdamW's, is scaled as in "Muon is
    Scalable for LLM Training" (arXiv 2502.16982), section 2.2.
    """

    def __init__(
        self, weights: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Changes all weights that have a gradient."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].mul_(momentum).add_(weight.grad)
                ahead = weight.grad.add(state["momentum"], alpha=momentum).flatten(1)  # Nesterov's
                update = orthogonal(ahead).view_as(weight)
                weight.mul_(1 - rate * group["weight_decay"])
                weight.add_(update, alpha=-rate * _RMS * max(ahead.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:  # [M, N]
    """About U Vᵀ of the matrix's singular value decomposition U S Vᵀ: all singular values near 1."""
    a, b, c = _NEWTON_SCHULZ
    tall = len(matrix) > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon is for: those between features; neither words, nor images, nor vectors."""
    words = {module.weight for module in network.modules() if isinstance(module, nn.Embedding)}
    return [
        weight
        for name, weight in network.named_parameters()
        if weight.ndim > 1 and weight not in words and not any(part in name for part in _OUTERMOST)
    ]
