"""Furniture and household things of the starter's world."""

from __future__ import annotations

import math

from .parts import (
    BLACK,
    CREAM,
    DARK_WOOD,
    GLASS,
    GOLD,
    RED,
    SILVER,
    STEEL,
    WOOD,
    Dice,
    Figure,
    Paint,
    around,
    ball,
    box,
    cone,
    limb,
    path,
    ring,
    shaded,
    tube,
)

SIDES = (-1, 1)
LIE = (0.0, math.pi / 2, 0.0)


def lamp(dice: Dice, paint: Paint) -> Figure:
    """A shade on a stand."""
    low, high, h = dice(0.42), dice(0.23), dice(0.24)
    stand = paint.second(STEEL)
    return Figure(
        [
            cone(low, high, h, (0, 0, 0.32), paint.main),
            tube(dice(0.04), 0.42, (0, 0, -0.15), stand),
            cone(dice(0.25), 0.12, 0.045, (0, 0, -0.55), stand, rounding=0.015),
            ball(dice(0.1), (0, 0, dice(-0.3)), stand),
            ball(0.05, (0, 0, 0.32 + h + 0.04), stand),
        ]
    )


def chair(dice: Dice, paint: Paint) -> Figure:
    """Four legs, a seat with a cushion, a back."""
    x, back, legs = dice(0.28), dice(0.3), dice(0.24)
    wood = (
        paint.second(WOOD if paint.plain[0] > 0.7 or paint.plain[2] > 0.4 else CREAM)
        if paint.trim
        else paint.plain
    )
    solids = [
        box((x, x, 0.045), (0, 0, -0.05), wood),
        box((x * 0.86, x * 0.86, 0.05), (0.01, 0, 0.02), paint.main, rounding=0.045),
    ]
    for sx in SIDES:
        for sy in SIDES:
            solids.append(
                limb(
                    (sx * x * 0.85, sy * x * 0.85, -0.08),
                    (sx * x * 0.95, sy * x * 0.95, -0.1 - 2 * legs),
                    0.045,
                    0.035,
                    wood,
                )
            )
    if dice.chance(0.5):
        solids.append(box((0.04, x, back), (-x + 0.03, 0, back), paint.main, rounding=0.035))
    else:
        for y in (-0.85, 0, 0.85):
            solids.append(
                limb((-x + 0.04, y * x, 0), (-x - 0.02, y * x, 2 * back - 0.06), 0.036, 0.036, wood)
            )
        solids.append(box((0.04, x, 0.08), (-x - 0.02, 0, 2 * back - 0.04), paint.main, rounding=0.03))
    return Figure(solids)


def table(dice: Dice, paint: Paint) -> Figure:
    """A top, round or square, on four legs or one foot."""
    x, z = dice(0.5, 0.1), 0.2
    second = paint.second(shaded(paint.plain, 0.75))
    round_top = dice.chance(0.45)
    solids = [
        tube(x, 0.04, (0, 0, z), paint.main, rounding=0.015)
        if round_top
        else box((x, dice(0.4), 0.05), (0, 0, z), paint.main)
    ]
    if round_top:
        solids += [
            limb((0, 0, z - 0.04), (0, 0, -0.4), 0.05, 0.07, second),
            cone(0.28, 0.1, 0.04, (0, 0, -0.42), second, rounding=0.02),
        ]
        return Figure(solids)
    y = solids[0].size[1]
    for sx in SIDES:
        for sy in SIDES:
            solids.append(box((0.05, 0.05, 0.32), (sx * x * 0.86, sy * y * 0.84, z - 0.32), second))
    return Figure(solids)


def cup(dice: Dice, paint: Paint) -> Figure:
    """A mug with a handle, and coffee in it."""
    r, h = dice(0.3), dice(0.32)
    low = r * dice.pick(1.0, 0.8, 0.7)
    return Figure(
        [
            ring(h * 0.55, 0.055, (0, (r + low) / 2, 0), paint.second(paint.plain), turn=LIE),
            cone(low, r, h, (0, 0, 0), paint.main, rounding=0.015),
            cone(low * 0.86, r * 0.9, h * 0.94, (0, 0, h * 0.16), CREAM, carve=True),
            tube(r * 0.89, 0.01, (0, 0, h * 0.62), (0.27, 0.14, 0.07)),
        ]
    )


def teapot(dice: Dice, paint: Paint) -> Figure:
    """A round pot with a spout, a handle and a lid."""
    r, flat = dice(0.36, 0.08), dice(0.82, 0.1)
    second = paint.second(shaded(paint.plain, 0.65))
    return Figure(
        [
            ring(r * 0.52, 0.05, (0, -r * 1.0, 0.02), second, turn=LIE),
            ball((r, r, r * flat), (0, 0, 0), paint.main),
            limb((0, r * 0.75, -0.08), (0, r * 1.55, dice(0.2)), 0.11, 0.055, second),
            tube(r * 0.5, 0.03, (0, 0, r * flat - 0.01), second, rounding=0.02),
            ball(0.07, (0, 0, r * flat + 0.1), second),
            tube(r * 0.55, 0.03, (0, 0, -r * flat + 0.02), second, rounding=0.01),
        ]
    )


def barrel(dice: Dice, paint: Paint) -> Figure:
    """Staves bulging between hoops of iron."""
    r, h = dice(0.32), dice(0.44)
    hoop = paint.second(STEEL)
    solids = [
        ball((r * 1.25, r * 1.25, h * 1.7), (0, 0, 0), paint.main),
        box((0.8, 0.8, 0.4), (0, 0, h + 0.4), shaded(paint.plain, 0.7), carve=True, rounding=0),
        box((0.8, 0.8, 0.4), (0, 0, -h - 0.4), shaded(paint.plain, 0.7), carve=True, rounding=0),
    ]
    for part in (-0.82, -0.35, 0.35, 0.82):
        solids.append(
            tube(r * 1.25 * math.sqrt(1 - (part / 1.7) ** 2) + 0.018, 0.035, (0, 0, part * h), hoop)
        )
    return Figure(solids)


def bell(dice: Dice, paint: Paint) -> Figure:
    """A bell with a flared rim, a clapper and a loop."""
    r, h = dice(0.26), dice(0.3)
    second = paint.second(shaded(paint.plain, 0.6))
    return Figure(
        [
            ball((r, r, h * 1.4), (0, 0, -0.12), paint.main, floor=-0.1),
            cone(r * 1.65, r * 0.98, 0.17, (0, 0, -0.32), paint.main, blend=0.06),
            tube(r * 1.7, 0.035, (0, 0, -0.5), second, rounding=0.02),
            ball(0.11, (0, 0, -0.58), second),
            ring(0.1, 0.04, (0, 0, h * 1.4 - 0.02), second, turn=LIE),
        ]
    )


def guitar(dice: Dice, paint: Paint) -> Figure:
    """Stands; a waisted body with a hole, a neck with a head, strings."""
    low, high = dice(0.31, 0.1), dice(0.22, 0.1)
    neck = paint.second(DARK_WOOD)
    top = dice(0.62, 0.08)
    solids = [
        tube(low, 0.075, (0, 0, -0.35), paint.main, turn=LIE, rounding=0.015),
        tube(high, 0.075, (0, 0, 0.0), paint.main, turn=LIE, rounding=0.015, blend=0.08),
        tube(0.095, 0.08, (0.04, 0, -0.14), BLACK, turn=LIE),
        box((0.03, 0.045, 0.36), (0.085, 0, 0.32), neck, rounding=0.01),
        box((0.035, 0.085, 0.1), (0.05, 0, top + 0.1), neck, rounding=0.02),
        box((0.03, 0.11, 0.022), (0.1, 0, -0.43), neck, rounding=0.01),
    ]
    for y in (-0.025, 0.0, 0.025):
        solids.append(limb((0.13, y, -0.43), (0.125, y, top + 0.05), 0.006, 0.006, SILVER))
    for side in SIDES:
        for z in (0.04, 0.14):
            solids.append(ball(0.03, (0.05, side * 0.11, top + z), SILVER))
    return Figure(solids)


def hourglass(dice: Dice, paint: Paint) -> Figure:
    """Two bulbs with sand between two plates held by posts."""
    r, h = dice(0.3), dice(0.26)
    sand = paint.second((0.93, 0.76, 0.42))
    solids = [tube(r * 1.2, 0.045, (0, 0, s * 2 * h), paint.main, rounding=0.015) for s in SIDES]
    solids += [cone(r, 0.03, h, (0, 0, -h), GLASS), cone(0.03, r, h, (0, 0, h), GLASS)]
    level = dice(0.45, 0.4)
    solids += [
        cone(r * 1.015, r * (1.01 - level), h * level, (0, 0, -2 * h + h * level), sand),
        cone(0.04, 0.04 + r * 0.95 * level, h * level, (0, 0, h * level), sand),
    ]
    solids += [
        limb((p[0], p[1], -2 * h), (p[0], p[1], 2 * h), 0.032, 0.032, paint.plain)
        for p, _ in around(3, r * 1.08, 0, math.pi / 3)
    ]
    return Figure(solids)


def umbrella(dice: Dice, paint: Paint) -> Figure:
    """Open; ribs, a stick, a hooked handle."""
    r, high = dice(0.52, 0.08), dice(0.34)
    handle = paint.second(DARK_WOOD)
    solids = [
        ball((r, r, high), (0, 0, 0.15), paint.main, floor=0.0),
        ball((r * 0.97, r * 0.97, high * 0.9), (0, 0, 0.12), shaded(paint.plain, 0.7), carve=True),
        limb((0, 0, -0.5), (0, 0, 0.15 + high + 0.1), 0.024, 0.02, handle),
    ]
    solids += [ball(0.14, (p[0], p[1], p[2]), paint.plain, carve=True) for p, _ in around(8, r * 0.98, 0.1)]
    hook = [(0, 0, -0.5), (0.02, 0, -0.58), (0.08, 0, -0.62), (0.14, 0, -0.58), (0.15, 0, -0.5)]
    return Figure(solids + path(hook, 0.036, handle))


def gift(dice: Dice, paint: Paint) -> Figure:
    """A box tied with ribbon, a bow on its lid."""
    x, y, z = dice(0.36, 0.1), dice(0.36, 0.1), dice(0.28)
    ribbon = paint.second(GOLD if paint.plain[0] < 0.9 or paint.plain[2] > 0.3 else RED)
    solids = [
        box((x, y, z), (0, 0, -0.25), paint.main, rounding=0.01),
        box((x + 0.03, y + 0.03, 0.07), (0, 0, -0.25 + z), paint.main, rounding=0.01),
        box((0.06, y + 0.045, z + 0.085), (0, 0, -0.24), ribbon, rounding=0.01),
        box((x + 0.045, 0.06, z + 0.085), (0, 0, -0.24), ribbon, rounding=0.01),
        ball(0.07, (0, 0, -0.1 + z), ribbon),
    ]
    for side in SIDES:
        solids.append(ball((0.07, 0.17, 0.1), (0, side * 0.16, -0.08 + z), ribbon, turn=(side * 0.45, 0, 0)))
    return Figure(solids)


HOUSEHOLD = {
    "lamp": lamp,
    "chair": chair,
    "table": table,
    "cup": cup,
    "teapot": teapot,
    "barrel": barrel,
    "bell": bell,
    "guitar": guitar,
    "hourglass": hourglass,
    "umbrella": umbrella,
    "gift": gift,
}
