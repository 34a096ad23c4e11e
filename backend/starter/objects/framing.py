"""Puts objects where the cameras of the starter look, as large as their images have room for."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..sdf import Shape
from ..tracing import distances

ELEVATION_DEG, RADIUS, FOV_DEG = 15.0, 1.9, 39.6  # VideoMV's orbit, nearer: few pixels must show much
FILLED = 0.93  # of the frame, by the largest extent in any view of the orbit
_GRID, _REACH = 60, 1.15


def fit_to_frame(shape: Shape, filled: float = 1.0) -> Shape:
    """Centres an object, and scales it until some view of the orbit is filled up to a margin.

    Args:
        filled: less than 1 leaves more room around it.
    """
    points = _inside(shape)
    low, high = points.amin(0), points.amax(0)
    middle = (low + high) / 2
    away = points - middle
    scale = 1.0
    for _ in range(4):  # a larger object is nearer, too
        scale *= filled * FILLED / _extent(scale * away)
    return replace(shape, center=(float(middle[0]), float(middle[1]), float(middle[2])), scale=scale)


def lowest(shape: Shape) -> float:
    """The height of the point that an object stands on."""
    return float((_inside(shape)[:, 2].amin() - shape.center[2]) * shape.scale)


def _inside(shape: Shape) -> Tensor:
    """Points [N, 3] of a grid that are inside the object, or nearly."""
    axis = torch.linspace(-_REACH, _REACH, _GRID)
    cell = 2 * _REACH / (_GRID - 1)
    grid = torch.cartesian_prod(axis, axis, axis)
    plain = replace(shape, center=(0.0, 0.0, 0.0), scale=1.0)
    return grid[distances(plain, grid)[0] < cell * 0.6]  # thin parts pass between its points


def _extent(points: Tensor) -> float:
    """How far points [N, 3] reach in any view of the orbit, as a part of half the frame."""
    e = math.radians(ELEVATION_DEG)
    x, y, z = points.unbind(-1)
    out = torch.hypot(x, y)
    half = math.tan(math.radians(FOV_DEG / 2))
    sideways = out / torch.sqrt((RADIUS**2 - out**2).clamp_min(0.1))  # at the tangent of its circle
    extents = [sideways.max()]
    for sign in (-1, 1):  # nearest to the camera, and furthest from it
        depth = RADIUS - sign * out * math.cos(e) - z * math.sin(e)
        extents.append((((z * math.cos(e) - sign * out * math.sin(e)).abs()) / depth).max())
    return float(torch.stack(extents).max()) / half
