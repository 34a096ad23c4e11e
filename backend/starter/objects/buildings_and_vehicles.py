"""Buildings and vehicles of the starter's world."""

from __future__ import annotations

import math

from ..sdf import Solid
from .parts import (
    BLACK,
    CLAY,
    CREAM,
    DARK_WOOD,
    GLASS,
    RED,
    SILVER,
    STEEL,
    WARM,
    WHITE,
    WOOD,
    Dice,
    Figure,
    Paint,
    around,
    ball,
    box,
    cone,
    limb,
    ring,
    shaded,
    tube,
)

SIDES = (-1, 1)
LIE = (0.0, math.pi / 2, 0.0)  # turns what stands along Z to lie along X
WHEEL = (math.pi / 2, 0.0, 0.0)  # and along Y


def house(dice: Dice, paint: Paint) -> Figure:
    """A gable roof, a door, windows, a chimney."""
    x, y, z, roof = dice(0.4), dice(0.42), dice(0.3), dice(0.2)
    top = -0.2 + z
    roof_color = paint.second(CLAY if paint.plain[1] > 0.3 else (0.25, 0.27, 0.35))
    solids = [
        box((x, y, z), (0, 0, -0.2), paint.main, rounding=0.005),
        Solid("prism", (x + 0.08, y + 0.12, roof), (0, 0, top + roof), roof_color),
        box((0.03, 0.1, 0.18), (x, 0, -0.02 - z), DARK_WOOD, rounding=0.005),
        box((0.08, 0.08, 0.2), (-x * 0.5, y * 0.45, top + roof * 1.4), shaded(CLAY, 0.8), rounding=0.005),
    ]
    for side in SIDES:
        solids.append(box((0.03, 0.085, 0.085), (x, side * y * 0.6, -0.12), WHITE, rounding=0.005))
        solids.append(box((0.04, 0.065, 0.065), (x, side * y * 0.6, -0.12), GLASS, rounding=0.005))
        solids.append(box((0.11, 0.03, 0.1), (0, side * y, -0.14), GLASS, rounding=0.005))
    return Figure(solids)


def tower(dice: Dice, paint: Paint) -> Figure:
    """Round and alone, with battlements, a door and slits; sometimes a flag."""
    r, h, top = dice(0.26), dice(0.46, 0.1), dice(0.35, 0.08)
    solids = [
        cone(r * 1.15, r, h, (0, 0, -0.12), paint.main),
        tube(top, 0.09, (0, 0, h - 0.06), paint.main),
        box((0.08, 0.1, 0.17), (r, 0, -h + 0.04), DARK_WOOD, rounding=0.01),
    ]
    for (x, y, z), a in around(3, r, dice(0.06)):
        solids.append(box((0.06, 0.045, 0.09), (x, y, z), BLACK, turn=(0, 0, a), rounding=0.01))
    for (x, y, z), a in around(8, top * 0.85, h + 0.08, math.pi / 8):
        solids.append(
            box((0.06, 0.08, 0.09), (x, y, z), paint.second(paint.plain), turn=(0, 0, a), rounding=0.01)
        )
    if dice.chance(0.5):
        solids.append(limb((0, 0, h), (0, 0, h + 0.42), 0.02, 0.02, WOOD))
        solids.append(box((0.012, 0.13, 0.085), (0, 0.13, h + 0.34), paint.second(RED), rounding=0.01))
    return Figure(solids)


def castle(dice: Dice, paint: Paint) -> Figure:
    """Four towers with pointed roofs at the corners of a wall, a gate, a keep."""
    x, wall, r = dice(0.36, 0.1), dice(0.24), dice(0.125)
    roof = paint.second((0.22, 0.36, 0.72) if paint.plain[2] < 0.6 else (0.75, 0.2, 0.15))
    solids = [
        box((x, x, wall), (0, 0, -0.5 + wall), paint.main, rounding=0.005),
        box((0.05, 0.11, 0.15), (x, 0, -0.36), DARK_WOOD, rounding=0.01),
        tube(0.11, 0.05, (x, 0, -0.22), DARK_WOOD, turn=LIE),
        box((x * 0.42, x * 0.42, 0.2), (0, 0, -0.3 + 2 * wall - 0.1), paint.main, rounding=0.005),
        cone(x * 0.6, 0.01, 0.17, (0, 0, -0.1 + 2 * wall + 0.06), roof, sides=4, turn=(0, 0, math.pi / 4)),
    ]
    tall = dice(0.36)
    for sx in SIDES:
        for sy in SIDES:
            solids.append(tube(r, tall, (sx * x, sy * x, -0.5 + tall), paint.main))
            solids.append(cone(r * 1.3, 0.01, dice(0.15), (sx * x, sy * x, -0.5 + 2 * tall + 0.14), roof))
    for across in (-0.5, 0.0, 0.5):
        solids.append(
            box(
                (0.05, 0.05, 0.05),
                (x - 0.04, across * x, -0.5 + 2 * wall + 0.03),
                paint.plain,
                rounding=0.005,
            )
        )
    return Figure(solids)


def windmill(dice: Dice, paint: Paint) -> Figure:
    """Four sails before a tapered tower with a cap."""
    r, h = dice(0.3), dice(0.42, 0.1)
    sail = dice(0.44, 0.1)
    cloth = paint.second(CREAM)
    z = h - 0.12
    solids = [
        cone(r, r * 0.66, h, (0, 0, -0.2), paint.main, sides=8),
        cone(r * 0.82, 0.03, 0.14, (0, 0, h - 0.08), CLAY if paint.plain[0] < 0.6 else DARK_WOOD),
        box((0.05, 0.09, 0.15), (r * 0.94, 0, -0.2 - h + 0.15), DARK_WOOD, rounding=0.01),
        limb((0, 0, z), (r * 0.66 + 0.18, 0, z), 0.05, 0.06, STEEL),
    ]
    first = dice.random.uniform(0.2, 1.3)
    for i in range(4):
        a = first + i * math.pi / 2
        c, s = math.cos(a), math.sin(a)
        x = r * 0.66 + 0.15
        solids.append(limb((x, 0, z), (x, sail * c * 1.15, z + sail * s * 1.15), 0.022, 0.018, DARK_WOOD))
        middle = (x, sail * 0.66 * c - 0.07 * s, z + sail * 0.66 * s + 0.07 * c)
        solids.append(box((0.018, sail * 0.46, 0.09), middle, cloth, turn=(a, 0, 0), rounding=0.005))
    return Figure(solids)


def lighthouse(dice: Dice, paint: Paint) -> Figure:
    """A slim tower with bands, a lantern that shines, a round rock below."""
    r, h = dice(0.2), dice(0.42, 0.08)
    band = paint.second(WHITE if min(paint.plain) < 0.85 else RED)
    solids = [ball((0.36, 0.36, 0.13), (0, 0, -0.56), (0.42, 0.4, 0.38), floor=-0.06)]
    for i in range(4):
        low, high = r * (1.2 - 0.13 * i), r * (1.2 - 0.13 * (i + 1))
        color = paint.main if i % 2 == 0 else band
        solids.append(cone(low, high, h / 4, (0, 0, -0.46 + h / 4 + i * h / 2), color))
    top = -0.46 + 2 * h
    solids += [
        tube(r * 1.05, 0.03, (0, 0, top + 0.02), STEEL),
        tube(r * 0.55, 0.1, (0, 0, top + 0.13), (1.0, 0.92, 0.45)),
        cone(r * 0.8, 0.02, 0.09, (0, 0, top + 0.3), paint.plain),
        box((0.05, 0.06, 0.1), (r * 1.12, 0, -0.38), DARK_WOOD, rounding=0.01),
    ]
    solids += [
        limb(p, (p[0], p[1], top + 0.12), 0.012, 0.012, STEEL) for p, _ in around(8, r * 0.98, top + 0.04)
    ]
    return Figure(solids)


def car(dice: Dice, paint: Paint) -> Figure:
    """A cabin with windows, four wheels, lamps."""
    long, wide, cabin = dice(0.58, 0.1), dice(0.28), dice(0.3)
    back, high = dice(-0.08, 0.9), dice(0.14)
    roof = paint.second(paint.plain) if paint.trim else paint.main
    solids = [
        box((long, wide, 0.15), (0, 0, -0.08), paint.main, rounding=0.06),
        box((cabin, wide * 0.88, high), (back, 0, 0.06 + high), roof, rounding=0.05),
        box((cabin + 0.025, wide * 0.7, high * 0.62), (back, 0, 0.07 + high), GLASS, rounding=0.02),
        box((cabin * 0.78, wide * 0.88 + 0.02, high * 0.62), (back, 0, 0.07 + high), GLASS, rounding=0.02),
        box((0.03, wide * 0.95, 0.04), (long, 0, -0.17), SILVER, rounding=0.01),
        box((0.03, wide * 0.95, 0.04), (-long, 0, -0.17), SILVER, rounding=0.01),
    ]
    wheel = dice(0.145, 0.1)
    for x in (-0.6, 0.6):
        for side in SIDES:
            at = (x * long, side * (wide + 0.01), -0.22)
            solids.append(tube(wheel, 0.06, at, BLACK, turn=WHEEL, rounding=0.015))
            solids.append(tube(wheel * 0.5, 0.085, at, SILVER, turn=WHEEL))
    for side in SIDES:
        solids.append(ball((0.04, 0.06, 0.06), (long, side * wide * 0.65, -0.05), WARM))
        solids.append(ball((0.03, 0.05, 0.04), (-long, side * wide * 0.65, -0.05), RED))
    return Figure(solids)


def rocket(dice: Dice, paint: Paint) -> Figure:
    """A pointed nose, a round window, three or four fins."""
    r, h = dice(0.21), dice(0.42, 0.1)
    second = paint.second(WHITE if min(paint.plain) < 0.85 else RED)
    solids = [
        ball((r * 1.12, r * 1.12, h * 1.35), (0, 0, 0), paint.main),
        ball((r * 1.14, r * 1.14, h * 1.37), (0, 0, 0), second, floor=h * 0.72),
        cone(r * 0.75, r * 0.55, 0.07, (0, 0, -h * 1.25), STEEL),
        ring(0.1, 0.03, (r * 0.98, 0, h * 0.32), SILVER, turn=LIE),
        ball((0.05, 0.1, 0.1), (r * 0.98, 0, h * 0.32), GLASS),
    ]
    fin, count = dice(0.22), dice.pick(3, 4, 4)
    for (x, y, z), a in around(count, r + fin * 0.3, -h + 0.04, math.pi / count):
        solids.append(box((fin * 0.6, 0.03, 0.18), (x, y, z), second, turn=(0, 0.45, a), rounding=0.02))
    if dice.chance(0.4):
        solids.append(
            limb((0, 0, -h * 1.25 - 0.06), (0, 0, -h * 1.25 - dice(0.2)), r * 0.5, 0.02, (1.0, 0.62, 0.1))
        )
    return Figure(solids)


def plane(dice: Dice, paint: Paint) -> Figure:
    """Wings, a tail, a propeller on the nose, a cockpit."""
    long, span = dice(0.5, 0.1), dice(0.6, 0.1)
    second = paint.second(WHITE if min(paint.plain) < 0.85 else RED)
    solids = [
        limb((long, 0, 0), (-long, 0, 0.06), dice(0.165), 0.07, paint.main),
        ball((0.16, 0.1, 0.12), (long * 0.3, 0, 0.13), GLASS),
        box((0.15, span, 0.028), (long * 0.28, 0, -0.03), second, rounding=0.026),
        box((0.09, 0.24, 0.022), (-long * 0.95, 0, 0.07), second, rounding=0.02),
        box((0.1, 0.022, 0.15), (-long * 0.95, 0, 0.2), paint.main, rounding=0.02, turn=(0, -0.3, 0)),
        ball(0.06, (long + 0.17, 0, 0), STEEL),
    ]
    a = dice.random.uniform(0, math.pi)
    c, s = 0.24 * math.cos(a), 0.24 * math.sin(a)
    solids.append(limb((long + 0.19, -c, -s), (long + 0.19, c, s), 0.025, 0.025, DARK_WOOD))
    if dice.chance(0.4):
        solids.append(box((0.13, span * 0.95, 0.026), (long * 0.28, 0, 0.28), second, rounding=0.024))
        for side in SIDES:
            solids.append(
                limb(
                    (long * 0.28, side * span * 0.55, -0.03),
                    (long * 0.28, side * span * 0.55, 0.28),
                    0.016,
                    0.016,
                    STEEL,
                )
            )
    for side in SIDES:
        solids.append(tube(0.075, 0.03, (long * 0.4, side * 0.14, -0.26), BLACK, turn=WHEEL, rounding=0.01))
        solids.append(
            limb((long * 0.4, side * 0.1, -0.1), (long * 0.4, side * 0.14, -0.26), 0.018, 0.018, STEEL)
        )
    return Figure(solids)


def balloon(dice: Dice, paint: Paint) -> Figure:
    """A hot-air balloon with a basket on ropes."""
    r = dice(0.42, 0.08)
    skirt = paint.second(shaded(paint.plain, 0.6))
    solids = [
        ball((r, r, r * dice(1.05, 0.08)), (0, 0, 0.22), paint.main),
        cone(0.1, r * 0.93, r * 0.42, (0, 0, -0.14), paint.main, blend=0.05),
        tube(0.12, 0.035, (0, 0, 0.2 - r - 0.11), skirt),
        box((0.12, 0.12, 0.1), (0, 0, -0.62), WOOD, rounding=0.02),
        box((0.13, 0.13, 0.022), (0, 0, -0.52), DARK_WOOD, rounding=0.01),
    ]
    for x in SIDES:
        for y in SIDES:
            solids.append(limb((x * 0.1, y * 0.1, -0.52), (x * 0.1, y * 0.1, -0.25), 0.013, 0.013, DARK_WOOD))
    for way, a in around(4, 1.0, 0.0, math.pi / 4):
        if paint.trim is not None:
            at = (way[0] * r * 0.12, way[1] * r * 0.12, 0.22)
            solids.append(ball((r * 0.9, r * 0.3, r * 1.06), at, paint.trim, turn=(0, 0, a)))
    return Figure(solids)


BUILDINGS_AND_VEHICLES = {
    "house": house,
    "tower": tower,
    "castle": castle,
    "windmill": windmill,
    "lighthouse": lighthouse,
    "car": car,
    "rocket": rocket,
    "plane": plane,
    "balloon": balloon,
}
