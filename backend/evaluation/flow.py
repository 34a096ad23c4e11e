"""How well one image, moved along the optical flow, becomes another: smooth views, calm animations."""

from __future__ import annotations

import numpy as np
from skimage.color import rgb2gray
from skimage.registration import optical_flow_tvl1
from skimage.transform import warp
from torch import Tensor

from .images import at_most

SIZE_PX = 96  # images are reduced to this: TV-L1 takes about a third of a second then


def flow_rmse(images: Tensor, masks: Tensor, gap: int, closed: bool) -> float | None:
    """Root mean square error between images and those `gap` further, moved back along the optical flow.

    VideoMV's measure of consistency between views, with gaps 1 and 6 on an orbit of 24; and, with gap 1 over
    time, the warping error by which flicker is measured (Lai et al. 2018). The flow is TV-L1 (Zach et al.
    2007, scikit-image) on grey images; the papers use a learnt flow, so their numbers are not comparable.
    Only pixels of the object are counted, those of either image. What comes into view behind an edge has
    no flow and counts as error, so the value is not 0 even for a perfect orbit.

    Args:
        images: [N, 3, H, W] sRGB 0..1.
        masks: [N, H, W] bool, where the object is.
        closed: whether the last image is followed by the first.

    Returns:
        The error, 0..1, or None if there are not more images than the gap.
    """
    count = len(images)
    if count <= gap:
        return None
    small = at_most(images, SIZE_PX).movedim(1, -1).double().numpy()
    inside = at_most(masks[:, None].float(), SIZE_PX)[:, 0].numpy()
    squares, pixels = 0.0, 0
    for first in range(count if closed else count - gap):
        second = (first + gap) % count
        coordinates = _where_from(small[first], small[second])
        moved = np.stack(
            [warp(channel, coordinates, mode="edge") for channel in small[second].transpose(2, 0, 1)]
        )
        counted = (inside[first] > 0.5) | (warp(inside[second], coordinates, mode="edge") > 0.5)
        squares += float(np.square(small[first].transpose(2, 0, 1) - moved)[:, counted].sum())
        pixels += 3 * int(counted.sum())
    return float(np.sqrt(squares / pixels)) if pixels else 0.0


def _where_from(one: np.ndarray, other: np.ndarray) -> np.ndarray:  # [H, W, 3] each -> [2, H, W]
    """For every pixel of one image, row and column of the same point in the other."""
    down, right = optical_flow_tvl1(rgb2gray(one), rgb2gray(other))
    rows, columns = np.meshgrid(np.arange(one.shape[0]), np.arange(one.shape[1]), indexing="ij")
    return np.stack([rows + down, columns + right])
