"""What objects are put together from: dice for their proportions, paint, limbs, eyes, and things worn."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..patterns import Color, Vec3, plain
from ..sdf import Solid

BLACK, WHITE, CREAM = (0.05, 0.05, 0.06), (0.95, 0.95, 0.95), (0.93, 0.86, 0.70)
WOOD, DARK_WOOD, CLAY = (0.50, 0.31, 0.16), (0.33, 0.19, 0.10), (0.70, 0.36, 0.22)
STEEL, SILVER, GOLD = (0.30, 0.31, 0.34), (0.72, 0.74, 0.78), (0.92, 0.69, 0.16)
GLASS, LEAF, ORANGE = (0.55, 0.80, 0.95), (0.22, 0.55, 0.16), (0.97, 0.48, 0.04)
RED, ROSE, WARM = (0.84, 0.09, 0.08), (0.96, 0.55, 0.62), (1.0, 0.93, 0.62)


class Dice:
    """A seeded source of proportions: `dice(0.4)` is 0.4 give or take a sixth."""

    def __init__(self, seed: int | str) -> None:
        self.random = random.Random(seed)

    def __call__(self, value: float, spread: float = 0.16) -> float:
        return value * self.random.uniform(1 - spread, 1 + spread)

    def pick(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def chance(self, part: float) -> bool:
        return self.random.random() < part


@dataclass(frozen=True)
class Paint:
    """The colours that an object was asked for.

    Attributes:
        main: of what is largest, maybe in a pattern.
        trim: of the rest; None for what is usual for that kind of object.
    """

    main: Color
    trim: Vec3 | None = None

    @property
    def plain(self) -> Vec3:
        """The main colour for small parts, which have no room for a pattern."""
        return plain(self.main)

    def second(self, usual: Vec3) -> Vec3:
        return self.trim or usual


@dataclass(frozen=True)
class Head:
    """Where something can be worn: the middle of a head, and its radius."""

    at: Vec3
    radius: float


@dataclass(frozen=True)
class Figure:
    """Solids that make an object whose front is +X, up +Z; and its head, if it has one."""

    solids: list[Solid]
    head: Head | None = None


Builder = Callable[[Dice, Paint], Figure]


def shaded(color: Vec3, factor: float) -> Vec3:
    """Darker below 1; above, mixed with white."""
    if factor <= 1:
        return (color[0] * factor, color[1] * factor, color[2] * factor)
    mix = factor - 1
    return (color[0] + (1 - color[0]) * mix, color[1] + (1 - color[1]) * mix, color[2] + (1 - color[2]) * mix)


def ball(radius: float | Vec3, at: Vec3, color: Color, **more: Any) -> Solid:
    """A sphere, or an ellipsoid of three radii."""
    radii = radius if isinstance(radius, tuple) else (radius, radius, radius)
    return Solid("ellipsoid", radii, at, color, **more)


def box(half: Vec3, at: Vec3, color: Color, rounding: float = 0.02, **more: Any) -> Solid:
    """A box of these half extents; its rounding is inside of them."""
    inner = (half[0] - rounding, half[1] - rounding, half[2] - rounding)
    return Solid("box", inner, at, color, rounding=rounding, **more)


def tube(radius: float, half: float, at: Vec3, color: Color, **more: Any) -> Solid:
    """A cylinder along Z."""
    return Solid("cylinder", (radius, half, 0), at, color, **more)


def cone(low: float, high: float, half: float, at: Vec3, color: Color, **more: Any) -> Solid:
    """A cone along Z, from its lower radius to its upper one."""
    return Solid("cone", (low, high, half), at, color, **more)


def ring(radius: float, thick: float, at: Vec3, color: Color, **more: Any) -> Solid:
    """A torus around Z."""
    return Solid("torus", (radius, thick, 0), at, color, **more)


def limb(a: Vec3, b: Vec3, low: float, high: float, color: Color, **more: Any) -> Solid:
    """A round stick from `a` to `b`, as thick as `low` there and as `high` here."""
    along = (b[0] - a[0], b[1] - a[1], b[2] - a[2])
    length = math.hypot(*along)
    turn = (0.0, math.acos(along[2] / length), math.atan2(along[1], along[0]))
    middle = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2)
    return Solid("limb", (low, high, length / 2), middle, color, turn=turn, **more)


def around(count: int, radius: float, z: float, first: float = 0.0) -> list[tuple[Vec3, float]]:
    """Points evenly on a circle about Z, each with its angle."""
    angles = [first + i * math.tau / count for i in range(count)]
    return [((radius * math.cos(a), radius * math.sin(a), z), a) for a in angles]


def path(points: Sequence[Vec3], thick: float, color: Color, **more: Any) -> list[Solid]:
    """A bent stick through some points."""
    return [limb(a, b, thick, thick, color, **more) for a, b in itertools.pairwise(points)]


def eyes(head: Head, size: float = 0.2, apart: float = 0.42, up: float = 0.2) -> list[Solid]:
    """Two eyes on the front of a round head: white, with a pupil, so that they show on any colour."""
    solids = []
    for side in (-1, 1):
        ahead = math.sqrt(max(0.1, 1 - apart**2 - up**2))
        out = (ahead, side * apart, up)
        at = tuple(c + head.radius * o * 0.93 for c, o in zip(head.at, out, strict=True))
        pupil = tuple(c + head.radius * size * 0.55 * o for c, o in zip(at, (1, side * 0.1, 0), strict=True))
        solids.append(ball(head.radius * size, (at[0], at[1], at[2]), WHITE))
        solids.append(ball(head.radius * size * 0.66, (pupil[0], pupil[1], pupil[2]), BLACK))
    return solids


def _hat(head: Head, color: Vec3) -> list[Solid]:
    (x, y, z), r = head.at, head.radius
    return [
        tube(r * 1.15, r * 0.09, (x, y, z + r * 0.72), color, rounding=0.01),
        cone(r * 0.72, r * 0.78, r * 0.5, (x, y, z + r * 1.25), color, rounding=0.01),
        tube(r * 0.80, r * 0.12, (x, y, z + r * 0.95), WHITE if color != WHITE else BLACK),
    ]


def _party_hat(head: Head, color: Vec3) -> list[Solid]:
    (x, y, z), r = head.at, head.radius
    return [
        cone(r * 0.62, r * 0.06, r * 0.68, (x, y, z + r * 1.35), color, rounding=0.01),
        ball(r * 0.22, (x, y, z + r * 2.1), WHITE if color != WHITE else RED),
    ]


def _crown(head: Head, color: Vec3) -> list[Solid]:
    (x, y, z), r = head.at, head.radius
    spikes = [
        cone(r * 0.2, 0.01, r * 0.3, (x + p[0], y + p[1], p[2]), GOLD)
        for p, _ in around(6, r * 0.66, z + r * 1.25)
    ]
    return [tube(r * 0.76, r * 0.22, (x, y, z + r * 0.88), GOLD), *spikes]


def _bow(head: Head, color: Vec3) -> list[Solid]:
    (x, y, z), r = head.at, head.radius
    wings = [
        ball(
            (r * 0.16, r * 0.42, r * 0.26),
            (x + r * 0.3, y + s * r * 0.38, z + r * 0.98),
            color,
            turn=(s * 0.35, 0, 0),
        )
        for s in (-1, 1)
    ]
    return [*wings, ball(r * 0.17, (x + r * 0.34, y, z + r * 0.98), shaded(color, 0.75))]


def _scarf(head: Head, color: Vec3) -> list[Solid]:
    (x, y, z), r = head.at, head.radius
    return [
        ring(r * 0.78, r * 0.24, (x, y, z - r * 0.92), color),
        limb(
            (x + r * 0.85, y + r * 0.3, z - r),
            (x + r * 0.95, y + r * 0.4, z - r * 1.9),
            r * 0.2,
            r * 0.24,
            color,
        ),
    ]


ACCESSORIES: dict[str, Callable[[Head, Vec3], list[Solid]]] = {
    "hat": _hat,
    "party hat": _party_hat,
    "crown": _crown,
    "bow": _bow,
    "scarf": _scarf,
}


def wearing(figure: Figure, accessory: str, color: Vec3) -> Figure:
    """A figure with something on its head."""
    assert figure.head
    return replace(figure, solids=[*figure.solids, *ACCESSORIES[accessory](figure.head, color)])
