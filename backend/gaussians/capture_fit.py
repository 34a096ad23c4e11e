"""Fits Gaussians to the views of a capture, coarse images first, and measures the result."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..shared.ply import GaussianCloud
from ..shared.sequence_file import Blending
from .capture import View
from .color import over
from .density import DEAD, grown, relocate, stir
from .fitting import SplatParameters, optimizer_of, render

_LEVELS = ((4, 0.2), (2, 0.5), (1, 1.0))  # pixels so many times larger, until this share of the steps
_LEAST_PX = 32  # smaller images say nothing
_EVERY = 50  # steps from one relocation to the next
_GROWN_AT, _SETTLED_AT = 0.6, 0.85  # shares of the steps after which none are added, and none relocated
_FAINT, _SMALL = (
    0.01,
    0.01,
)  # weights of the mean opacity and the mean size, beside the error (arXiv 2404.09591)
_NOISE = 80.0  # that paper's: the learning rate of the means, 1.6e-4, times 5e5
_BRISK = 240  # steps for which `fitting` has its step sizes; more steps are smaller ones


def fit_views(
    cloud: GaussianCloud,
    views: list[View],
    steps: int,
    count: int,
    blending: Blending,
    has_alpha: bool,
    generator: torch.Generator,
    on_step: Callable[[], None],
) -> GaussianCloud:
    """Optimises Gaussians until their renders are the views; those not needed move to where they help.

    The world is the unit ball. Where the images have alpha, every step has another colour behind both, so
    that splats cannot imitate a background; else it is black, as everywhere.

    Args:
        count: how many Gaussians there will be; fewer in the beginning are more, step by step.
        on_step: called after every step; may raise.

    Source: Kerbl et al., 3D Gaussian Splatting (arXiv 2308.04079), with `density` in place of its control.
    """
    splats = SplatParameters.of(cloud)
    began = len(cloud)
    size = float(np.median(cloud.scales)) * math.sqrt(began / max(count, began))
    optimizer, decay = optimizer_of(splats, size, steps, min(1.0, math.sqrt(_BRISK / steps)))
    order: list[int] = []
    factor, level = 0, views
    for step in range(steps):
        share = step / steps
        wanted = next(factor for factor, until in _LEVELS if share < until)
        while wanted > 1 and min(min(view.size_px) for view in views) < _LEAST_PX * wanted:
            wanted //= 2
        if wanted != factor:
            factor, level = wanted, [view.shrunk(wanted) for view in views]
        if not order:
            order = torch.randperm(len(views), generator=generator).tolist()
        view = level[order.pop()]
        behind = torch.rand(1, 3, generator=generator) if has_alpha else torch.zeros(1, 3)
        error = _error(splats, view, behind, blending)
        loss = error + _FAINT * splats.logits.sigmoid().mean() + _SMALL * splats.log_scales.exp().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        if step % _EVERY == _EVERY - 1 and share < _SETTLED_AT:
            relocate(splats, optimizer, generator)
            target = began * (count / began) ** min(share / _GROWN_AT, 1.0) if count > began else began
            splats = grown(splats, optimizer, min(math.ceil(target), count), generator)
        stir(splats, _NOISE * 0.01**share, generator)
        on_step()
    return _visible(splats.to_cloud())


@torch.no_grad()
def measure(cloud: GaussianCloud, views: list[View], blending: Blending) -> dict[str, float]:
    """PSNR over all pixels before white, and over those of the objects alone; the means over the views.

    NeRF's scenes are measured over all pixels. Many of these show nothing, so the other figure is lower.
    """
    splats = SplatParameters.of(cloud).map(Tensor.detach)
    white = torch.ones(1, 3)
    every, own = [], []
    for view in views:
        rgba = view.rgba.float() / 255
        image = _image(splats, view, white, blending).clamp(0, 1)
        square = (image - over(rgba, white, blending, -1)).square().mean(-1)
        every.append(_psnr(square))
        if (covered := rgba[..., 3] > 0).any():
            own.append(_psnr(square[covered]))
    return {"psnr": round(float(np.mean(every)), 2), "object_psnr": round(float(np.mean(own or [0.0])), 2)}


def _error(splats: SplatParameters, view: View, behind: Tensor, blending: Blending) -> Tensor:
    target = over(view.rgba.float() / 255, behind, blending, -1)
    return (_image(splats, view, behind, blending) - target).abs().mean()


def _image(splats: SplatParameters, view: View, behind: Tensor, blending: Blending) -> Tensor:  # [H, W, 3]
    return render(splats, view.camera[None], view.K[None], *view.size_px, behind, blending)[0]


def _psnr(square: Tensor) -> float:
    return -10 * math.log10(max(float(square.mean()), 1e-10))


def _visible(cloud: GaussianCloud) -> GaussianCloud:
    """Without the Gaussians that show nothing."""
    kept = cloud.opacities > DEAD
    if not kept.any():
        return cloud
    fields = (field.name for field in dataclasses.fields(cloud))
    return GaussianCloud(**{name: getattr(cloud, name)[kept] for name in fields})
