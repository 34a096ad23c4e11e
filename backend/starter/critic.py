"""A critic that has a decoder make crisp images, where the mean of all that may be would be a soft one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import relu
from torch.nn.utils.parametrizations import spectral_norm

WEIGHT = 0.4  # of what the critic says, by the strength of its gradient, against the plain difference
WIDTHS = (32, 64, 96)


class Critic(nn.Module):
    """Tells images that were decoded from true ones, patch by patch of 38 px, by hinge losses.

    Source: Isola et al. (arXiv 1611.07004), section 3.2.2, with the weight of Esser et al.
    (arXiv 2012.09841), equation 7.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in WIDTHS:
            layers += [spectral_norm(nn.Conv2d(channels, width, 4, 2, 1)), nn.LeakyReLU(0.2)]
            channels = width
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(channels, 1, 3, 1, 1)))

    def forward(self, images: Tensor) -> Tensor:  # [B, 3, H, W] sRGB to [B, 1, h, w]
        scores: Tensor = self.layers(2 * images - 1)
        return scores

    def losses(self, made: Tensor, true: Tensor, difference: Tensor, last: Tensor) -> Tensor:
        """What the critic's own weights are to minimise, and what the decoder's are, in one number.

        Args:
            made, true: images, [B, 3, H, W] sRGB.
            difference: the decoder's other loss; the critic's weighs as much by the gradient of `last`.
            last: weights of the decoder's last layer.
        """
        own = relu(1 - self(true)).mean() + relu(1 + self(made.detach())).mean()
        fixed = {name: weight.detach() for name, weight in self.named_parameters()}
        deceived = -functional_call(self, fixed, (made,)).mean()
        plain, critical = (
            torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (difference, deceived)
        )
        return own + WEIGHT * (plain / critical.clamp_min(1e-6)).clamp_max(100.0) * deceived
