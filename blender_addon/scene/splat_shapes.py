"""What drawing needs of splats, in numpy: covariances, colours, and the order to draw them in."""

from __future__ import annotations

import math

import numpy as np

from ..backend.shared.ply import GaussianCloud
from ..backend.shared.splat_transform import harmonics
from .splat_material import MIN_ALPHA


def covariances(cloud: GaussianCloud, size: float = 1.0) -> np.ndarray:
    """Covariances in the splats' own space, `[N, 6]` float32: xx, xy, xz, yy, yz, zz.

    Args:
        size: factor of every splat's size.
    """
    w, x, y, z = cloud.quats.T
    rows = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
        np.float32,
    )  # [3, 3, N]
    axes = rows * (cloud.scales.T * size)[None]
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    return np.stack([(axes[i] * axes[j]).sum(axis=0) for i, j in pairs], axis=1)


def colours(
    cloud: GaussianCloud,
    camera: np.ndarray,  # [3] in the splats' own space
    sh_degree: int,
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0),
    opacity: float = 1.0,
    *,
    linear: bool,
) -> np.ndarray:
    """Colours seen from a point, tinted, and opacities: `[N, 4]` float32, as light or as display values.

    Source: Kerbl et al., 3D Gaussian Splatting (2023), for the signs and the order of the harmonics.
    """
    degree = min(sh_degree, math.isqrt(cloud.sh.shape[1]) - 1)
    srgb = 0.5 + cloud.sh[:, 0] * harmonics(np.zeros((1, 3), np.float32))[:, :1]
    if degree > 0:
        direction = cloud.means - np.asarray(camera, np.float32)
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-12)
        basis = harmonics(direction)
        for i in range(1, (degree + 1) ** 2):
            srgb = srgb + cloud.sh[:, i] * basis[:, i : i + 1]
    srgb = np.maximum(srgb, 0)
    if linear:
        srgb = srgb_to_linear(srgb)
    alpha = np.clip(cloud.opacities * opacity, 0, 1)[:, None]
    return np.concatenate([srgb * np.asarray(tint), alpha], axis=1).astype(np.float32)


def srgb_to_linear(srgb: np.ndarray) -> np.ndarray:
    """Decodes sRGB values, none of them negative (IEC 61966-2-1)."""
    linear: np.ndarray = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return linear


def back_to_front(means: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Indices of the splats, the farthest first: `[N, 3]`, `[3]` -> `[N]` int64.

    Sorted by 65,536 steps of depth, which numpy does by radix.

    Args:
        towards: the direction to the viewer, in the splats' own space; its length does not matter.
    """
    if not len(means):
        return np.empty(0, np.int64)
    nearness = means @ np.asarray(towards, np.float32)
    low, high = float(nearness.min()), float(nearness.max())
    steps = (nearness - low) * (65535 / max(high - low, 1e-30))
    return np.argsort(steps.astype(np.uint16), kind="stable")


def reaches(alpha: np.ndarray) -> np.ndarray:
    """Standard deviations from a splat's centre to where it fades below 1/255: `[N]`, 0 if it never shows."""
    return np.sqrt(2 * np.log(np.maximum(alpha / MIN_ALPHA, 1)))
