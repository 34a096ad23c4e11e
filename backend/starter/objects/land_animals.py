"""Animals with four legs of the starter's world, and the teddy bear."""

from __future__ import annotations

import math

from ..sdf import Solid
from .parts import (
    BLACK,
    CREAM,
    ROSE,
    WHITE,
    Dice,
    Figure,
    Head,
    Paint,
    ball,
    cone,
    eyes,
    limb,
    path,
    ring,
    shaded,
    tube,
)

SIDES = (-1, 1)


def _sitting(dice: Dice, paint: Paint, head: Head, wide: float, belly: bool) -> list[Solid]:
    """Body, belly, arms and feet of an animal that sits upright, below its head."""
    low = -0.55
    tall = (head.at[2] - head.radius * 0.6 - low) / 2
    solids = [ball((wide * 0.9, wide, tall * 1.08), (0, 0, low + tall), paint.main)]
    if belly:
        solids.append(
            ball(
                (wide * 0.5, wide * 0.68, tall * 0.7),
                (wide * 0.48, 0, low + tall * 0.95),
                paint.second(CREAM),
            )
        )
    for side in SIDES:
        solids.append(
            ball((wide * 0.62, wide * 0.3, 0.085), (wide * 0.72, side * wide * 0.62, low + 0.05), paint.main)
        )
        shoulder = (wide * 0.35, side * wide * 0.72, low + tall * 1.45)
        paw = (wide * 0.92, side * wide * 0.52, low + tall * dice(0.8))
        solids.append(limb(shoulder, paw, 0.09, 0.075, paint.main))
    return solids


def cat(dice: Dice, paint: Paint) -> Figure:
    """Sits; pointed ears, whiskers, a tail that curls."""
    head = Head((0.1, 0, dice(0.3, 0.1)), dice(0.27, 0.1))
    (x, _, z), r = head.at, head.radius
    solids = _sitting(dice, paint, head, dice(0.26), belly=True)
    solids += [ball((r * 0.95, r * 1.1, r * 0.95), head.at, paint.main)]
    for side in SIDES:
        ear = (x - 0.02, side * r * 0.66, z + r * 0.95)
        solids.append(cone(r * 0.38, 0.015, r * dice(0.42), ear, paint.main, turn=(-side * 0.25, 0, 0)))
        solids.append(cone(r * 0.22, 0.01, r * 0.28, (ear[0] + r * 0.2, ear[1], ear[2] - 0.02), ROSE))
        solids.append(
            ball(
                (r * 0.24, r * 0.28, r * 0.2),
                (x + r * 0.86, side * r * 0.2, z - r * 0.28),
                paint.second(CREAM),
            )
        )
        for rise in (-0.05, 0.05):
            root = (x + r * 0.85, side * r * 0.3, z - r * 0.25)
            solids.append(limb(root, (x + r * 0.7, side * r * 1.4, z - r * 0.25 + rise), 0.012, 0.008, BLACK))
    solids.append(ball((0.04, 0.055, 0.04), (x + r * 1.03, 0, z - r * 0.1), ROSE))
    swing = dice.pick(-1, 1)
    tail = [
        (-0.2, 0, -0.48),
        (-0.42, swing * 0.12, -0.42),
        (-0.5, swing * 0.2, -0.2),
        (-0.42, swing * 0.2, dice(0.05)),
    ]
    return Figure(solids + eyes(head) + path(tail, 0.055, paint.main), head)


def _standing(dice: Dice, paint: Paint, long: float, thick: float, legs: float, leg: float) -> list[Solid]:
    """Body and legs of an animal on four feet; its belly is at z = 0 less `thick`."""
    solids = [ball((long, thick, thick * 1.05), (0, 0, 0), paint.main)]
    for x in (-0.62, 0.62):
        for side in SIDES:
            hip = (x * long, side * thick * 0.55, -thick * 0.4)
            solids.append(limb(hip, (hip[0], hip[1], -thick - legs), leg, leg * 0.9, paint.main))
    return solids


def dog(dice: Dice, paint: Paint) -> Figure:
    """Stands; a long snout, hanging ears, the tail up."""
    long, thick, legs = dice(0.42), dice(0.2), dice(0.2)
    head = Head((long + 0.08, 0, dice(0.3)), dice(0.22, 0.1))
    (x, _, z), r = head.at, head.radius
    second = paint.second(CREAM)
    solids = _standing(dice, paint, long, thick, legs, 0.085)
    solids += [
        limb((long * 0.7, 0, 0.05), (x, 0, z), 0.15, 0.14, paint.main),
        ball(r, head.at, paint.main),
        ball((r * 0.75, r * 0.5, r * 0.42), (x + r * 0.95, 0, z - r * 0.25), second),
        ball((0.06, 0.075, 0.055), (x + r * 1.65, 0, z - r * 0.05), BLACK),
        limb((-long * 0.9, 0, 0.08), (-long - dice(0.18), 0, dice(0.36)), 0.05, 0.03, paint.main),
    ]
    droop = dice(1.0, 0.3)
    for side in SIDES:
        at = (x - r * 0.1, side * r * 0.98, z - r * 0.15 * droop)
        solids.append(
            ball((r * 0.38, r * 0.16, r * 0.72), at, shaded(paint.plain, 0.6), turn=(side * 0.2, 0, 0))
        )
    if dice.chance(0.5):
        solids.append(
            ring(0.165, 0.03, (long * 0.92, 0, z - r * 0.85), paint.second((0.8, 0.1, 0.1)), turn=(0, 0.5, 0))
        )
    return Figure(solids + eyes(head, up=0.3), head)


def rabbit(dice: Dice, paint: Paint) -> Figure:
    """Sits; two long ears, a round tail, front teeth."""
    head = Head((0.12, 0, dice(0.16)), dice(0.25, 0.1))
    (x, _, z), r = head.at, head.radius
    solids = _sitting(dice, paint, head, dice(0.27), belly=True)
    solids += [ball(r, head.at, paint.main), ball(0.11, (-0.3, 0, -0.42), WHITE)]
    ear, spread = dice(0.3), dice(0.22, 0.5)
    for side in SIDES:
        at = (x - 0.04, side * (r * 0.42 + spread * ear * 0.6), z + r * 0.75 + ear * 0.8)
        solids.append(ball((0.055, 0.085, ear), at, paint.main, turn=(-side * spread, 0, 0)))
        solids.append(
            ball((0.03, 0.05, ear * 0.75), (at[0] + 0.04, at[1], at[2]), ROSE, turn=(-side * spread, 0, 0))
        )
        solids.append(ball(r * 0.3, (x + r * 0.8, side * r * 0.24, z - r * 0.35), paint.second(WHITE)))
    solids.append(ball((0.04, 0.05, 0.035), (x + r * 1.06, 0, z - r * 0.12), ROSE))
    solids.append(Solid("box", (0.02, 0.045, 0.05), (x + r * 0.96, 0, z - r * 0.62), WHITE, rounding=0.01))
    return Figure(solids + eyes(head, up=0.3), head)


def bear(dice: Dice, paint: Paint) -> Figure:
    """A teddy: sits, round ears, a muzzle, legs stretched forward."""
    head = Head((0.06, 0, dice(0.26, 0.1)), dice(0.29, 0.08))
    (x, _, z), r = head.at, head.radius
    wide = dice(0.31)
    second = paint.second(CREAM)
    solids = [
        ball((wide * 0.85, wide, 0.34), (0, 0, -0.22), paint.main),
        ball((wide * 0.4, wide * 0.66, 0.23), (wide * 0.55, 0, -0.2), second),
        ball((r * 0.92, r * 1.06, r * 0.95), head.at, paint.main),
        ball((r * 0.45, r * 0.45, r * 0.36), (x + r * 0.8, 0, z - r * 0.28), second),
        ball((0.05, 0.07, 0.05), (x + r * 1.22, 0, z - r * 0.16), BLACK),
    ]
    for side in SIDES:
        solids.append(
            ball((r * 0.22, r * dice(0.38), r * 0.38), (x, side * r * 0.82, z + r * 0.75), paint.main)
        )
        solids.append(
            ball((r * 0.12, r * 0.22, r * 0.22), (x + r * 0.16, side * r * 0.82, z + r * 0.75), second)
        )
        solids.append(
            limb((0, side * wide * 0.75, -0.05), (0.2, side * (wide + 0.14), -0.24), 0.1, 0.1, paint.main)
        )
        foot = (wide + 0.22, side * wide * 0.72, -0.46)
        solids.append(limb((0.1, side * wide * 0.6, -0.42), foot, 0.13, 0.13, paint.main))
        solids.append(ball((0.04, 0.09, 0.09), (foot[0] + 0.11, foot[1], foot[2]), second))
    return Figure(solids + eyes(head, size=0.16, up=0.22), head)


def pig(dice: Dice, paint: Paint) -> Figure:
    """Stands; fat, a flat nose with two holes, a curly tail."""
    long, thick = dice(0.42), dice(0.31)
    head = Head((long * 0.95, 0, dice(0.1, 0.4)), dice(0.26, 0.1))
    (x, _, z), r = head.at, head.radius
    nose = paint.second(ROSE if paint.plain != ROSE else shaded(ROSE, 0.8))
    solids = _standing(dice, paint, long, thick, dice(0.1), 0.1)
    solids += [
        ball(r, head.at, paint.main),
        tube(
            r * 0.45, r * 0.22, (x + r * 1.0, 0, z - r * 0.15), nose, turn=(0, math.pi / 2, 0), rounding=0.01
        ),
    ]
    for side in SIDES:
        solids.append(ball((0.02, 0.035, 0.05), (x + r * 1.24, side * r * 0.18, z - r * 0.15), BLACK))
        ear = (x + r * 0.2, side * r * 0.62, z + r * 0.92)
        solids.append(
            cone(r * 0.36, 0.02, r * 0.3, ear, shaded(paint.plain, 0.8), turn=(-side * 0.4, 0.5, 0))
        )
    curl = [
        (-long - 0.03, 0, 0.08),
        (-long - 0.12, 0.07, 0.14),
        (-long - 0.16, 0, 0.22),
        (-long - 0.12, -0.07, 0.15),
        (-long - 0.2, -0.02, 0.08),
    ]
    return Figure(solids + path(curl, 0.026, paint.plain) + eyes(head, up=0.35), head)


LAND_ANIMALS = {
    "cat": cat,
    "dog": dog,
    "rabbit": rabbit,
    "bear": bear,
    "pig": pig,
}
