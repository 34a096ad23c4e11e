"""How much GPU memory a training step of Vivid-ZOO's alignment needs, worked out without a GPU.

    python -m tests.bench.alignment_memory

One step at full size (one clip: 4 views of 16 frames at 256 px) is traced with tensors that have sizes and
types but no content, and the largest sum of what is alive at once is printed. Attention is the kind that
keeps no table of all pairs, and norms give single precision, as they do on a GPU. What a GPU needs besides is
not in it: its context, the workspaces of its kernels, and what its allocator cannot reuse.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPTextConfig, CLIPTextModel

from backend.models.multiview_motion_unet import MultiViewMotionUNet
from backend.pipelines.schedules import VIVID_ZOO
from backend.training.multiview_motion import ALIGNMENT, MultiViewMotionObjective

VIEWS, FRAMES, LATENT = 4, 16, 32


def main() -> None:
    """Traces a step with and without gradient checkpointing and prints the peaks."""
    for checkpointing in (True, False):
        print(f"gradient checkpointing {checkpointing}: {peak_gib(checkpointing):.1f} GiB", flush=True)


def peak_gib(checkpointing: bool) -> float:
    """The most that is alive at once during a step, in GiB."""
    functional = torch.nn.functional
    with (
        FakeTensorMode(),
        patch.object(functional, "group_norm", in_single_precision(functional.group_norm)),
        patch.object(functional, "layer_norm", in_single_precision(functional.layer_norm)),
    ):
        words = CLIPTextModel(
            CLIPTextConfig(vocab_size=1, hidden_size=768, num_hidden_layers=0, eos_token_id=0)
        )
        objective = MultiViewMotionObjective(
            MultiViewMotionUNet(), words, VIVID_ZOO, ALIGNMENT, checkpointing
        )
        for parameter in objective.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.half()
        trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        average = [parameter.detach().clone() for parameter in trained]
        optimizer = torch.optim.AdamW(trained, fused=True)
        shape = (1, VIEWS, FRAMES, 4, LATENT, LATENT)
        batch = {
            "latents": torch.randn(shape),
            "tokens": torch.zeros(1, 77, dtype=torch.long),
            "cameras": torch.randn(1, VIEWS, 4, 4),
            "noise": torch.randn(shape),
            "timesteps": torch.zeros(1, dtype=torch.long),
        }
        alive = Alive()
        alive.add(list(objective.parameters()), average, batch)
        with alive:
            for _ in range(2):  # the optimizer's state is made in the first
                with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                    loss = objective(**batch)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
    return alive.peak / 2**30


class Alive(TorchDispatchMode):
    """Counts the bytes of all tensors that exist at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def add(self, *tensors: Any) -> None:
        for tensor in tree_leaves(tensors):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self.known:
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.add(made)
        return made


def in_single_precision(norm: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A norm as autocast has it on a GPU."""

    def normed(*inputs: Any, **options: Any) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            single = [x.float() if isinstance(x, torch.Tensor) else x for x in inputs]
            return norm(*single, **{k: v.float() if torch.is_tensor(v) else v for k, v in options.items()})

    return normed


if __name__ == "__main__":
    main()
