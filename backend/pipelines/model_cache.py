"""Keeps the model of the last job in memory for the next one."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from . import devices
from .plan import Plan


class Networks(Protocol):
    """A model of any kind."""

    @property
    def networks(self) -> tuple[torch.nn.Module, ...]:
        """All that have weights."""


M = TypeVar("M", bound=Networks)
_kept: dict[tuple[Path, Plan], Any] = {}  # the model of the last job, if there was one


def loaded(folder: Path, plan: Plan, load: Callable[[Path, Plan], M]) -> M:
    """The model, which stays for the next job; another one goes before it comes."""
    if (folder, plan) not in _kept:
        forget()
        with torch.inference_mode(False):  # or no gradient could pass through the weights
            _kept[folder, plan] = load(folder, plan)
    model: M = _kept[folder, plan]
    return model


def forget() -> None:
    """Gives back the memory of the model that was kept for the next job."""
    _kept.clear()
    gc.collect()  # hooks that move networks are parts of cycles
    devices.empty_cache()


def kept_bytes(device: torch.device) -> int:
    """How much of the main memory `forget` would give back; that of GPUs is known without."""
    models = _kept.values() if device.type == "cpu" else ()
    return sum(weight.nbytes for model in models for net in model.networks for weight in net.parameters())
