"""Muon: steps along the momentum of every weight matrix, with all of its directions equally long."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..pipelines.devices import computes_bfloat16

_NEWTON_SCHULZ, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5
_RMS = 0.2  # of an AdamW update, which these are made as large as
_OUTERMOST = "conv_in.", "conv_out.", "patch_embedding."  # they see or make images, not features


class Muon(torch.optim.Optimizer):
    """As `torch.optim.Muon`, with convolutions as matrices of one row per output, all of a size at once.

    torch's takes matrices alone, one by one, in bfloat16, which takes twenty times as long where a CPU
    imitates it.

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
            same: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].mul_(momentum).add_(weight.grad)
                ahead = weight.grad.add(state["momentum"], alpha=momentum).flatten(1)  # Nesterov's
                same.setdefault(ahead.shape, []).append((weight, ahead))
            for shape, some in same.items():
                updates = orthogonal(torch.stack([ahead for _, ahead in some]))
                for (weight, _), update in zip(some, updates, strict=True):
                    weight.mul_(1 - rate * group["weight_decay"])
                    weight.add_(update.view_as(weight), alpha=-rate * _RMS * max(shape) ** 0.5)


def orthogonal(matrices: Tensor) -> Tensor:  # [K, M, N]
    """About U Vᵀ of each matrix's singular value decomposition U S Vᵀ: all singular values near 1.

    In bfloat16 where the processor computes in it; what comes back is float32.
    """
    a, b, c = _NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    x = x.to(torch.bfloat16) if x.is_cuda or computes_bfloat16() else x
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon is for: those between features; neither words, nor images, nor vectors."""
    words = {module.weight for module in network.modules() if isinstance(module, nn.Embedding)}
    return [
        weight
        for name, weight in network.named_parameters()
        if weight.ndim > 1 and weight not in words and not any(part in name for part in _OUTERMOST)
    ]
