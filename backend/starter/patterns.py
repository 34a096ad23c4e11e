"""Colours that are more than one: stripes, spots and checks that run on over the solids of an object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Vec3 = tuple[float, float, float]
PatternKind = Literal["stripes", "spots", "checks"]

_SPOT = 0.58  # radius of a spot as a part of half the distance to the next
_SOFT = 0.012  # of the object's size: the width in which one colour becomes the other


@dataclass(frozen=True)
class Pattern:
    """Two colours of one solid, laid out in the object's own space.

    Attributes:
        below, above: sRGB albedos; stripes and checks share the surface evenly, spots are `above`.
        size: period in the object's space.
        along: direction that stripes follow one another in, unit length.
        shift: where the pattern begins.
    """

    kind: PatternKind
    below: Vec3
    above: Vec3
    size: float
    along: Vec3 = (0.0, 0.0, 1.0)
    shift: Vec3 = (0.0, 0.0, 0.0)


Color = Vec3 | Pattern


def plain(color: Color) -> Vec3:
    """The one colour to call it by."""
    return color.below if isinstance(color, Pattern) else color


def albedo(color: Color, points: Tensor) -> Tensor:  # [R, 3] -> sRGB [R, 3]
    """The colour of points in the object's space."""
    if not isinstance(color, Pattern):
        return points.new_tensor(color).expand_as(points)
    where = _distance_into(color, points - points.new_tensor(color.shift))
    weight = (0.5 + where / _SOFT).clamp(0, 1)[:, None]
    return torch.lerp(points.new_tensor(color.below), points.new_tensor(color.above), weight)


def _distance_into(pattern: Pattern, p: Tensor) -> Tensor:  # [R, 3] -> [R], about as far as it is
    """How far inside of the second colour points are; negative in the first."""
    match pattern.kind:
        case "stripes":
            return _wave(p @ p.new_tensor(pattern.along), pattern.size)
        case "checks":
            signs = _wave(p, pattern.size)
            return signs.sign().prod(-1) * signs.abs().amin(-1)
        case "spots":  # spheres on a body-centred lattice
            cells = [p - offset * pattern.size / 2 for offset in (0, 1)]
            near = torch.stack([(c - pattern.size * (c / pattern.size).round()).norm(dim=-1) for c in cells])
            return _SPOT * pattern.size / 2 - near.amin(0)


def _wave(x: Tensor, period: float) -> Tensor:
    """Distance to where a square wave of that period changes its sign, with the wave's sign."""
    phase = x / period % 1
    return (0.25 - (phase - 0.5).abs()) * period * math.copysign(1, period)
