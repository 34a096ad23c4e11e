"""The multi-view video that splats are fitted to, and their error against it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..shared.sequence_file import Blending
from .color import over
from .fitting import SplatParameters, render


class Targets:
    """The videos that a moving cloud is fitted to, and the photometric error of its frames."""

    def __init__(
        self,
        images: Tensor,  # [V, F, 4, H, W] sRGB, straight alpha
        cameras: Tensor,  # [V, 4, 4] camera-to-world
        fov_deg: float,
        blending: Blending,
        seed: int,
    ) -> None:
        self.pixels = images.float().movedim(2, -1)  # [V, F, H, W, 4]
        self.cameras, self.fov_deg, self.blending = cameras, fov_deg, blending
        self.generator = torch.Generator().manual_seed(seed)

    def error(self, splats: SplatParameters, frame: int, view: int | None = None) -> Tensor:
        """Mean absolute difference from one view of a frame, by default any, before any background."""
        if view is None:
            view = int(torch.randint(len(self.pixels), (), generator=self.generator))
        behind = torch.rand(1, 3, generator=self.generator)
        target = over(self.pixels[view, frame], behind, self.blending, -1)
        height, width = target.shape[:2]
        camera = self.cameras[view : view + 1]
        image = render(splats, camera, self.fov_deg, height, width, behind, self.blending)[0]
        return (image - target).abs().mean()
