"""When DeepCache evaluates a model's whole U-Net, and when only its outer layers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..models.deepcache import DeepFeatures


@dataclass(frozen=True)
class DeepCacheConfig:
    """How a model is denoised with DeepCache; kept with its settings.

    Attributes:
        whole_until: the part of the steps, 0..1, at the start that always evaluates the whole U-Net: layout
            is decided there, and an error there becomes another object.
        whole_every: steps from one evaluation of the whole U-Net to the next, after that.
        layers: how many of the last layers run in the steps between.
    """

    whole_until: float = 0.2
    whole_every: int = 3
    layers: int = 1


class DeepCache:
    """The cached features of one run of the denoising loop, one cache per network evaluation of a step.

    Args:
        steps: of the run.
        replaced: the steps that replace the clean latents (3D-aware ones). They and the steps after them
            evaluate the whole U-Net: they are to be exact, and cached features are of other latents.
        evaluations: of the network in a step: 2 if the halves of the guidance batch run in turn.
    """

    def __init__(
        self, config: DeepCacheConfig, steps: int, replaced: Collection[int], evaluations: int
    ) -> None:
        self._features = tuple(DeepFeatures(config.layers) for _ in range(evaluations))
        self._whole = whole_steps(config, steps, replaced)

    def begin(self, step: int) -> tuple[DeepFeatures, ...]:
        """The cache of each evaluation in this step, emptied if the whole U-Net is to run."""
        for each in self._features:
            each.begin(whole=step in self._whole)
        return self._features


def whole_steps(config: DeepCacheConfig, steps: int, replaced: Collection[int] = ()) -> set[int]:
    """The steps, of so many, that evaluate the whole U-Net."""
    whole = set(range(max(round(config.whole_until * steps), 1)))
    last = len(whole) - 1
    for step in range(len(whole), steps):
        if {step, step - 1} & set(replaced) or step - last >= config.whole_every:
            whole.add(step)
            last = step
    return whole
