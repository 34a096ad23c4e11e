"""An asset's views and the images of its splats, side by side and before the same background."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..gaussians import fitting
from ..gaussians.color import GREY, over
from ..shared.asset import Asset
from ..shared.ply import read_ply
from ..shared.protocol import DioramaError
from ..shared.sequence_file import Blending

_OBJECT = 0.05  # an opaque view's pixel that differs more than this from the background is the object's


@dataclass(frozen=True)
class Seen:
    """The views of an asset; all in sRGB, 0..1."""

    rgba: Tensor  # [V, F, 4, H, W] straight alpha; of opaque views 0 or 1, found by their background
    views: Tensor  # [V, F, 3, H, W] the generated views before the background
    background: Tensor  # [3]


@dataclass(frozen=True)
class AssetImages(Seen):
    """The views of an asset, and renders of its splats from the same cameras."""

    renders: Tensor  # [V, F, 3, H, W] the splats, seen by the same cameras
    cameras: Tensor  # [V, 4, 4] camera-to-world, Blender's axes
    fov_deg: float
    blending: Blending

    @property
    def masks(self) -> Tensor:  # [V, F, H, W] bool
        return self.rgba[:, :, 3] > 0.5


def images_of(asset: Asset) -> AssetImages:
    """Reads an asset's views and renders its splats through their cameras, frame by frame.

    Raises:
        DioramaError: E_ASSET if it has another number of splat files than of frames.
    """
    frames = len(asset.views[0])
    if len(asset.splats) != frames:
        raise DioramaError(
            "E_ASSET", f"{asset.directory} has {len(asset.splats)} splat files for {frames} frames of views"
        )
    seen = seen_in(asset)
    cameras = torch.from_numpy(asset.cameras).float()
    with torch.no_grad():
        renders = [
            fitting.render(
                fitting.SplatParameters.of(read_ply(path)), cameras, asset.fov_deg, asset.height, asset.width,
                seen.background.expand(len(cameras), 3), asset.blending,
            )
            for path in asset.splats
        ]  # fmt: skip
    shown = torch.stack(renders, 1).clamp(0, 1).movedim(-1, 2)  # [V, F, 3, H, W]
    return AssetImages(seen.rgba, seen.views, seen.background, shown, cameras, asset.fov_deg, asset.blending)


def seen_in(asset: Asset) -> Seen:
    """Reads an asset's views."""
    read = torch.stack([torch.stack([_read(path) for path in row]) for row in asset.views])
    if read.shape[2] == 3:
        background = border_color(read)
        return Seen(with_mask(read, background), read, background)
    background = torch.full((3,), GREY)
    return Seen(read, over(read, background.view(3, 1, 1), asset.blending), background)


def border_color(opaque: Tensor) -> Tensor:  # [..., 3, H, W] -> [3]
    """The colour behind the object of images without alpha: the median of their outermost pixels."""
    edges = [opaque[..., 0, :], opaque[..., -1, :], opaque[..., 0], opaque[..., -1]]
    return torch.cat([edge.movedim(-2, 0).flatten(1) for edge in edges], 1).median(1).values


def with_mask(opaque: Tensor, background: Tensor) -> Tensor:  # [..., 3, H, W], [3] -> [..., 4, H, W]
    """Images without alpha, with one of 0 or 1: whether a pixel differs from the background."""
    differs = (opaque - background.view(3, 1, 1)).abs().amax(-3, keepdim=True) > _OBJECT
    return torch.cat([opaque, differs.float()], -3)


def at_most(images: Tensor, size_px: int) -> Tensor:  # [N, C, H, W]
    """Images whose longer side is at most that many pixels; with alpha, hidden colours do not bleed."""
    height, width = images.shape[-2:]
    if max(height, width) <= size_px:
        return images
    scale = size_px / max(height, width)
    target = (max(1, round(height * scale)), max(1, round(width * scale)))
    if images.shape[1] != 4:
        return F.interpolate(images, target, mode="area")
    alpha = F.interpolate(images[:, 3:], target, mode="area")
    weighted = F.interpolate(images[:, :3] * images[:, 3:], target, mode="area")
    return torch.cat([weighted / alpha.clamp_min(1e-6), alpha], 1)


def _read(path: Path) -> Tensor:  # [3|4, H, W]
    with Image.open(path) as image:
        values = np.asarray(image.convert("RGBA" if "A" in image.mode else "RGB"), np.float32) / 255
    return torch.from_numpy(values).movedim(-1, 0)
