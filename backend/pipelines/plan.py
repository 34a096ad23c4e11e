"""How a model is run: on which device, in which precision, and how much of the work at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Plan:
    """How a model is run; what comes out is the same but for rounding.

    Attributes:
        dtype: of the weights and activations.
        branches_together: whether both branches of the guidance are evaluated at once.
        images_at_once: how many pictures the autoencoder sees at once; None for all.
        offload: what waits in main memory until it is needed: nothing; all networks but the one that works;
            or all layers but the one that works.
    """

    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    branches_together: bool = True
    images_at_once: int | None = None
    offload: Literal["nothing", "networks", "layers"] = "nothing"

    def __str__(self) -> str:
        """What it does to save memory, in words."""
        savings = []
        if self.images_at_once:
            savings.append(f"pictures pass the autoencoder {self.images_at_once} at a time")
        if not self.branches_together:
            savings.append("the guidance's branches run one after the other")
        if self.dtype == torch.bfloat16:
            savings.append("numbers have half their size (bfloat16)")
        if self.offload != "nothing":
            waiting = "networks" if self.offload == "networks" else "layers (this is slow)"
            savings.append(f"{waiting} wait in main memory until they are needed")
        return ", ".join(savings) or "everything at once"
