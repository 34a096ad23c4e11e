"""Moves Gaussians to where they are needed: those that have faded are reborn in others, and more are added.

Source: Kheradmand et al., 3D Gaussian Splatting as Markov Chain Monte Carlo (arXiv 2404.09591). Its number of
Gaussians is exact, and nothing but images decides where they go.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.reference import rotations

from .fitting import SplatParameters

DEAD = 0.005  # opacity of a Gaussian that shows nothing
_MOST_COPIES = 51
_LEAST_SCALE = 1e-7


def relocate(splats: SplatParameters, optimizer: torch.optim.Adam, generator: torch.Generator) -> None:
    """Lets every faded Gaussian become a part of another one; changes the parameters in place."""
    opacity = splats.logits.detach().sigmoid()
    dead = (opacity <= DEAD).nonzero().flatten()
    alive = (opacity > DEAD).nonzero().flatten()
    if not len(dead) or not len(alive):
        return
    chosen = alive[torch.multinomial(opacity[alive], len(dead), True, generator=generator)]
    _split(splats, chosen)
    with torch.no_grad():
        for values in vars(splats).values():
            values[dead] = values[chosen]
    changed = torch.cat([dead, chosen])
    for state in optimizer.state.values():
        for name in ("exp_avg", "exp_avg_sq"):
            state[name][changed] = 0


def grown(
    splats: SplatParameters, optimizer: torch.optim.Adam, count: int, generator: torch.Generator
) -> SplatParameters:
    """The Gaussians with more of them, `count` in all; the optimizer goes on with these."""
    more = count - len(splats.means)
    if more <= 0:
        return splats
    chosen = torch.multinomial(splats.logits.detach().sigmoid(), more, True, generator=generator)
    _split(splats, chosen)
    leaves = {}
    for group, (name, old) in zip(optimizer.param_groups, vars(splats).items(), strict=True):
        leaf = torch.cat([old.detach(), old.detach()[chosen]]).requires_grad_()
        state = optimizer.state.pop(old, {})
        for key in ("exp_avg", "exp_avg_sq"):
            if key in state:
                state[key] = torch.cat([state[key], torch.zeros_like(leaf[-more:])])
        if state:
            optimizer.state[leaf] = state
        group["params"] = [leaf]
        leaves[name] = leaf
    return SplatParameters(**leaves)


@torch.no_grad()
def stir(splats: SplatParameters, strength: float, generator: torch.Generator) -> None:
    """Shakes the Gaussians within themselves, the more the fainter they are: the noise of Langevin dynamics.

    Args:
        strength: of the noise, in means per unit of covariance.
    """
    rotation = rotations(splats.quats)
    half = rotation * splats.log_scales.exp()[:, None]  # covariance = half @ half.T
    noise = torch.randn(splats.means.shape, generator=generator)
    noise = noise * torch.sigmoid(100 * (DEAD - splats.logits.sigmoid()))[:, None] * strength
    splats.means.add_((half @ (half.mT @ noise[..., None]))[..., 0])


@torch.no_grad()
def _split(splats: SplatParameters, chosen: Tensor) -> None:
    """Makes Gaussians so much fainter and smaller that with their copies they look as before (eq. 9)."""
    which, copies = chosen.unique(return_counts=True)
    number = (copies + 1).clamp_max(_MOST_COPIES)
    opacity = splats.logits[which].sigmoid().double()
    fainter = 1 - (1 - opacity) ** (1 / number)
    spread = torch.zeros_like(fainter)
    for i in range(1, int(number.max()) + 1):
        terms = sum(math.comb(i - 1, k) * (-1) ** k * fainter ** (k + 1) / math.sqrt(k + 1) for k in range(i))
        spread += torch.where(number >= i, terms, 0)
    smaller = opacity / spread.clamp_min(1e-12)
    splats.logits[which] = fainter.clamp(DEAD, 1 - 1e-6).logit().float()
    splats.log_scales[which] += smaller.clamp_min(_LEAST_SCALE).log().float()[:, None]
