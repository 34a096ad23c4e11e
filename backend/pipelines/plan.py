"""How a model is run: device, precision, batching and offloading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Plan:
    """How a model is run; results differ between plans by rounding only.

    Attributes:
        dtype: of the weights and activations.
        batch_cfg: evaluate the guidance batch whole; else its unconditional and conditional halves in turn.
        images_at_once: batch size of the autoencoder; None for all images.
        offload: "model" keeps idle networks in main memory, "sequential" idle layers, as diffusers'
            enable_model_cpu_offload and enable_sequential_cpu_offload do.
    """

    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    batch_cfg: bool = True
    images_at_once: int | None = None
    offload: Literal["none", "model", "sequential"] = "none"

    def __str__(self) -> str:
        """Its memory savings, in words for the user."""
        savings = []
        if self.images_at_once:
            savings.append(f"images are encoded and decoded {self.images_at_once} at a time")
        if not self.batch_cfg:
            savings.append("the two halves of guidance run one after the other")
        if self.dtype == torch.bfloat16:
            savings.append("weights are bfloat16, half the size of float32")
        if self.offload != "none":
            idle = "networks" if self.offload == "model" else "layers"
            slow = " (this is slow)" if self.offload == "sequential" else ""
            savings.append(f"idle {idle} are kept in main memory{slow}")
        return ", ".join(savings) or "everything at once"
