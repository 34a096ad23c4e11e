"""The fast way to denoise: which steps run a model's whole network, and which only its fine layers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..models.deepcache import DeepFeatures


@dataclass(frozen=True)
class FastDenoising:
    """How a model is denoised fast; kept with its settings.

    Attributes:
        whole_until: the part of the steps, 0..1, that is as ever: what is made is decided there, and what is
            not exact there comes out as another object.
        whole_every: after how many steps the whole network runs again.
        layers: how many of the network's last layers run in the steps between.
    """

    whole_until: float = 0.2
    whole_every: int = 3
    layers: int = 1


class FastSteps:
    """The features that one run of one loop keeps, and when: never longer than the run.

    Args:
        steps: of the run.
        replaced: the steps that put other latents in the place of the denoised ones. The whole network runs
            in them, since they are to be as good as they can, and in the next ones, since what it said before
            was about something else.
        evaluations: of the network in a step: 2 if it sees the guidance's branches in turn.
    """

    def __init__(self, fast: FastDenoising, steps: int, replaced: Collection[int], evaluations: int) -> None:
        self._deep = tuple(DeepFeatures(fast.layers) for _ in range(evaluations))
        self._whole = whole_steps(fast, steps, replaced)

    def begin(self, step: int) -> tuple[DeepFeatures, ...]:
        """What each evaluation in this step is to know of the steps before."""
        for each in self._deep:
            each.begin(whole=step in self._whole)
        return self._deep


def whole_steps(fast: FastDenoising, steps: int, replaced: Collection[int] = ()) -> set[int]:
    """The steps, of so many, in which the whole network runs."""
    whole = set(range(max(round(fast.whole_until * steps), 1)))
    last = len(whole) - 1
    for step in range(len(whole), steps):
        if {step, step - 1} & set(replaced) or step - last >= fast.whole_every:
            whole.add(step)
            last = step
    return whole
