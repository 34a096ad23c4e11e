"""Furniture and household things of the starter's world."""

from __future__ import annotations

import math

from .parts import (
    BLACK,
    CREAM,
    DARK_WOOD,
    GOLD,
    RED,
    SILVER,
    STEEL,
    Dice,
    Figure,
    Paint,
    ball,
    box,
    cone,
    limb,
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
    "cup": cup,
    "teapot": teapot,
    "bell": bell,
    "guitar": guitar,
    "gift": gift,
}
