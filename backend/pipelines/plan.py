"""How a model is run: on which device, in which precision, and how much of the work at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from .memory import Work, needed_bytes

CPU = torch.device("cpu")
WORTHWHILE = 0.95  # a leaner plan that needs more than this part of the one before it is not worth its time


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


@dataclass(frozen=True)
class Choice:
    """The plan for a piece of work.

    Attributes:
        leaner: the plan to try if memory runs out all the same; None if there is none.
        reason: why, in a sentence for the user.
        fits: whether it should fit.
    """

    plan: Plan
    leaner: Plan | None
    reason: str
    fits: bool


def plans(device: torch.device) -> list[Plan]:
    """All plans for a device, from the fastest to the leanest."""
    lean = {"branches_together": False, "images_at_once": 4}
    if device.type == "cpu":
        # Some CPUs compute in bfloat16; the others imitate it, which takes time but saves as much.
        return [Plan(device), Plan(device, **lean), Plan(device, torch.bfloat16, **lean)]  # type: ignore[arg-type]
    half = torch.float16  # in which the published models were run on GPUs, too
    return [
        Plan(device, half, images_at_once=8),  # more at once are not faster
        Plan(device, half, **lean),  # type: ignore[arg-type]
        Plan(device, half, **lean, offload="networks"),  # type: ignore[arg-type]
        Plan(device, half, branches_together=False, images_at_once=1, offload="layers"),
    ]


def choose(work: Work, device: torch.device, free_bytes: int) -> Choice:
    """The fastest plan that fits into the free memory, or the leanest: an estimate never refuses."""
    worthwhile: list[tuple[Plan, int]] = []
    for plan in plans(device):
        needed = needed_bytes(work, plan)
        if not worthwhile or needed < WORTHWHILE * worthwhile[-1][1]:
            worthwhile.append((plan, needed))
    first, most = worthwhile[0]
    fitting = [i for i, (_, needed) in enumerate(worthwhile) if needed <= free_bytes]
    chosen = fitting[0] if fitting else len(worthwhile) - 1
    plan, needed = worthwhile[chosen]
    leaner = worthwhile[chosen + 1][0] if chosen + 1 < len(worthwhile) else None

    place = "main memory" if device.type == "cpu" else "the GPU's memory"
    reason = f"{work.views} views" + (f" of {work.frames} frames" if work.frames > 1 else "")
    reason += " to distil from" if work.distilled else ""
    dtype = str(first.dtype).removeprefix("torch.")
    reason += f" need about {_gb(most)} at {dtype}, {_gb(free_bytes)} of {place} are free: "
    reason += f"{plan} ({_gb(needed)})" if chosen else str(plan)
    if not fitting:
        reason += "; this may still be too much"
    return Choice(plan, leaner, reason + ".", bool(fitting))


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
