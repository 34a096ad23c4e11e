"""Birds, fish, insects and other small animals of the starter's world."""

from __future__ import annotations

import math

from .parts import (
    BLACK,
    ORANGE,
    WHITE,
    Dice,
    Figure,
    Head,
    Paint,
    ball,
    cone,
    eyes,
    limb,
    shaded,
    tube,
)

SIDES = (-1, 1)


def penguin(dice: Dice, paint: Paint) -> Figure:
    """Stands upright; a white front, flippers, an orange beak and feet."""
    wide, tall = dice(0.29), dice(0.44, 0.1)
    head = Head((0.03, 0, tall * 0.85), dice(0.22, 0.1))
    (x, _, z), r = head.at, head.radius
    white = paint.second(WHITE)
    solids = [
        ball((wide * 0.9, wide, tall), (0, 0, -0.05), paint.main),
        ball((wide * 0.5, wide * 0.72, tall * 0.8), (wide * 0.5, 0, -0.12), white),
        ball(r, head.at, paint.main, blend=0.06),
        ball((r * 0.55, r * 0.7, r * 0.62), (x + r * 0.5, 0, z - r * 0.1), white),
        cone(0.075, 0.01, dice(0.11), (x + r * 1.1, 0, z - r * 0.15), ORANGE, turn=(0, math.pi / 2, 0)),
    ]
    lift = dice(0.5, 0.6)
    for side in SIDES:
        reach = (0, side * (wide + 0.12 + 0.12 * lift), -0.3 + 0.3 * lift)
        solids.append(limb((0, side * wide * 0.85, 0.14), reach, 0.075, 0.04, paint.plain))
        solids.append(ball((0.16, 0.1, 0.05), (0.12, side * 0.13, -0.05 - tall), ORANGE))
    return Figure(solids + eyes(head, apart=0.45, up=0.25), head)


def duck(dice: Dice, paint: Paint) -> Figure:
    """Swims; a flat bill, wings at its sides, the tail up."""
    long, neck = dice(0.44), dice(0.3)
    head = Head((long * 0.62, 0, 0.05 + neck), dice(0.21, 0.1))
    (x, _, z), r = head.at, head.radius
    solids = [
        ball((long, 0.32, 0.27), (-0.05, 0, -0.15), paint.main),
        limb((-long * 0.8, 0, -0.08), (-long - 0.16, 0, 0.1), 0.16, 0.04, paint.main, blend=0.1),
        limb((long * 0.5, 0, -0.1), (x - 0.02, 0, z), 0.16, 0.13, paint.main, blend=0.1),
        ball(r, head.at, paint.main, blend=0.05),
        ball((0.16, 0.13, 0.045), (x + r + 0.06, 0, z - 0.05), ORANGE),
    ]
    for side in SIDES:
        wing = paint.second(shaded(paint.plain, 0.82))
        solids.append(ball((0.27, 0.06, 0.15), (-0.12, side * 0.31, -0.09), wing, turn=(0, 0.25, 0)))
    return Figure(solids + eyes(head, up=0.32, size=0.18), head)


def fish(dice: Dice, paint: Paint) -> Figure:
    """Swims; a forked tail, fins, large eyes."""
    long, high = dice(0.42), dice(0.29)
    fin = paint.second(shaded(paint.plain, 1.4))
    tail = dice(0.25)
    solids = [ball((long, 0.17, high), (0.1, 0, 0), paint.main)]
    for up in SIDES:
        solids.append(ball((tail, 0.04, 0.11), (-long - 0.06, 0, up * 0.14), fin, turn=(0, up * 0.75, 0)))
    solids.append(ball((0.24, 0.035, dice(0.17)), (0.02, 0, high), fin))
    for side in SIDES:
        solids.append(ball((0.085, 0.04, 0.085), (0.1 + long * 0.6, side * 0.115, 0.07), WHITE))
        solids.append(ball((0.05, 0.04, 0.05), (0.1 + long * 0.64, side * 0.135, 0.07), BLACK))
        solids.append(ball((0.16, 0.035, 0.08), (0.06, side * 0.2, -0.08), fin, turn=(0, -0.5, side * 0.45)))
    solids.append(ball((0.035, 0.07, 0.025), (0.1 + long * 0.97, 0, -0.06), shaded(paint.plain, 0.5)))
    return Figure(solids)


def turtle(dice: Dice, paint: Paint) -> Figure:
    """Walks; a domed shell of another colour than its skin."""
    wide, high = dice(0.4), dice(0.32)
    skin = paint.second((0.62, 0.74, 0.32))
    head = Head((wide + dice(0.2), 0, 0.06), dice(0.16, 0.1))
    solids = [
        ball((wide * 1.1, wide, high), (0, 0, -0.12), paint.main, floor=0.0),
        tube(wide * 1.04, 0.035, (0, 0, -0.13), shaded(paint.plain, 0.6), rounding=0.03),
        limb((wide * 0.7, 0, -0.15), head.at, 0.1, 0.1, skin),
        ball((head.radius * 1.15, head.radius, head.radius), head.at, skin),
        limb((-wide, 0, -0.16), (-wide - 0.2, 0, -0.2), 0.06, 0.02, skin),
    ]
    for x in SIDES:
        for side in SIDES:
            foot = (x * wide * 0.85, side * wide * 0.85, -0.3)
            solids.append(limb((x * wide * 0.6, side * wide * 0.6, -0.16), foot, 0.1, 0.11, skin))
    return Figure(solids + eyes(head, up=0.4), head)


SMALL_ANIMALS = {
    "penguin": penguin,
    "duck": duck,
    "fish": fish,
    "turtle": turtle,
}
