"""Splat colours that change with the direction they are seen from."""

from __future__ import annotations

import torch
from torch import Tensor

MAX_DEGREE = 3


def view_dependent_colors(degree: int, directions: Tensor, coefficients: Tensor) -> Tensor:
    """Colours of splats seen along directions: 0.5 + real spherical harmonics, not below 0.

    Args:
        degree: 0..3; the first (degree + 1)^2 coefficients are used.
        directions: [..., 3] from the camera to the splat, of any length.
        coefficients: [..., K, 3] in the order and with the signs of the 3DGS PLY format.
    """
    x, y, z = torch.nn.functional.normalize(directions, dim=-1).unbind(-1)
    basis = [torch.full_like(x, 0.28209479177387814)]
    if degree > 0:
        basis += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree > 1:
        basis += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree > 2:
        basis += [
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * z * z - x * x - y * y),
            0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -0.4570457994644658 * x * (4 * z * z - x * x - y * y),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    weights = torch.stack(basis, -1)
    return ((weights[..., None, :] @ coefficients[..., : len(basis), :])[..., 0, :] + 0.5).clamp_min(0)
