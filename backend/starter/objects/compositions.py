"""Objects that have no name: random solids, colours and patterns, grown together."""

from __future__ import annotations

import math
from dataclasses import replace

from ..patterns import Color, Pattern, Vec3
from ..sdf import Shape, Solid
from .framing import fit_to_frame
from .parts import Dice
from .vocabulary import COLORS

_KINDS = (
    "ellipsoid",
    "ellipsoid",
    "box",
    "cylinder",
    "cone",
    "torus",
    "capsule",
    "limb",
    "prism",
    "wedge",
    "star",
)


def make_composition(seed: int) -> Shape:
    """The composition number `seed`: 2 to 8 solids, each touching one before it."""
    dice = Dice(f"composition {seed}")
    count = dice.random.randint(2, 8)
    palette = [_color(dice) for _ in range(dice.random.randint(1, 4))]
    smooth = dice.chance(0.5)
    solids: list[Solid] = []
    for i in range(count):
        solid = _solid(dice, 0.42 if i == 0 else 0.3, dice.pick(*palette))
        if solids:
            solid = replace(solid, at=_beside(dice, dice.pick(*solids), solid))
            if smooth and dice.chance(0.7):
                solid = replace(solid, blend=dice.random.uniform(0.03, 0.15))
        solids.append(solid)
        if solids[1:] and dice.chance(0.25):  # a mirrored twin, as most made and living things have
            x, y, z = solid.at
            a, b, c = solid.turn
            solids.append(replace(solid, at=(x, -y, z), turn=(-a, b, -c)))
    return fit_to_frame(Shape(tuple(solids)))


def _solid(dice: Dice, size: float, color: Color) -> Solid:
    kind = dice.pick(*_KINDS)
    a, b, c = (size * math.exp(dice.random.uniform(-0.9, 0.25)) for _ in range(3))
    rounding = dice.random.uniform(0.0, 0.06)
    match kind:
        case "torus":
            b = min(b, 0.4 * a)
        case "limb":
            a, b, c = 0.6 * a, 0.4 * b, max(c, 0.5 * abs(a - b))
        case "capsule":
            a = 0.5 * a
        case "cone":
            b = dice.pick(0.02, b * 0.5)
        case "star":
            b, c = 0.5 * a, 0.2 * a
    sides = dice.pick(0, 0, 3, 4, 6) if kind in ("cylinder", "cone") else 0
    turned = dice.chance(0.5)
    turn = [
        dice.random.uniform(-math.pi, math.pi) if turned else dice.pick(0.0, math.pi / 2) for _ in range(3)
    ]
    return Solid(kind, (a, b, c), (0.0, 0.0, 0.0), color, (turn[0], turn[1], turn[2]), rounding, sides=sides)


def _beside(dice: Dice, other: Solid, solid: Solid) -> Vec3:
    """A place where a solid overlaps another, in a random direction."""
    out = [dice.random.gauss(0, 1) for _ in range(3)]
    length = math.hypot(*out)
    reach = 0.62 * (sorted(other.size)[1] + sorted(solid.size)[1])
    x, y, z = (a + reach * o / length for a, o in zip(other.at, out, strict=True))
    return x, y, z


def _color(dice: Dice) -> Color:
    first, second = (_plain(dice) for _ in range(2))
    if not dice.chance(0.25):
        return first
    size = dice.random.uniform(0.16, 0.32)
    along = dice.pick((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.707, 0.707))
    shift = (dice.random.uniform(0, size), dice.random.uniform(0, size), dice.random.uniform(0, size))
    return Pattern(dice.pick("stripes", "spots", "checks"), first, second, size, along, shift)


def _plain(dice: Dice) -> Vec3:
    if dice.chance(0.5):
        return COLORS[dice.pick(*COLORS)]
    return (dice.random.uniform(0.03, 0.98), dice.random.uniform(0.03, 0.98), dice.random.uniform(0.03, 0.98))
