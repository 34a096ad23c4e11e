"""Does a piece of work as fits into the free memory, and if that runs out, once more with less."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..shared.progress import Progress
from ..shared.protocol import DioramaError, explained, is_out_of_memory
from .attention import attention_of
from .devices import best_device, free_bytes, unused
from .memory import Planned, choose
from .model_cache import forget, kept_bytes
from .plan import Plan

T = TypeVar("T")


def planned(work: Planned, make: Callable[[Plan], T], progress: Progress) -> T:
    """What `make` gives with the plan that is chosen, or with the next leaner one.

    Raises:
        DioramaError: E_OUT_OF_MEMORY, or what `make` raises.
    """
    device = best_device()
    choice = choose(work, device, free_bytes(device) + kept_bytes(device))
    if reason := unused():
        progress.log("warning", reason)
    progress.log("info" if choice.fits else "warning", choice.reason)
    for plan in filter(None, (choice.plan, choice.leaner)):
        try:
            with attention_of(plan):
                return make(plan)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            failure = explained(error)
        # Here, where the error no longer holds what it was raised among.
        forget()
        if plan is choice.plan and choice.leaner:
            progress.log("warning", f"Memory ran out; trying again, once: {choice.leaner}.")
    fewer = f"Ask for fewer than {work.less}, or close" if work.less else "Close"
    message = f"there was not enough memory: {choice.reason}"
    raise DioramaError("E_OUT_OF_MEMORY", message, f"{fewer} other programs.", failure.detail)
