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
    around,
    ball,
    cone,
    eyes,
    limb,
    ring,
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


def whale(dice: Dice, paint: Paint) -> Figure:
    """Swims; a pale belly, the flukes raised, water that spouts."""
    long, high = dice(0.46, 0.1), dice(0.3)
    solids = [
        ball((long, 0.32, high), (0.08, 0, 0), paint.main),
        limb((-long * 0.6, 0, 0), (-long - 0.12, 0, 0.2), 0.17, 0.06, paint.main, blend=0.12),
        ball((long * 0.85, 0.3, high * 0.8), (0.14, 0, -high * 0.26), paint.second(WHITE)),
    ]
    for side in SIDES:
        solids.append(
            ball(
                (0.12, 0.2, 0.035), (-long - 0.17, side * 0.15, 0.27), paint.plain, turn=(0, 0.3, -side * 0.5)
            )
        )
        solids.append(
            ball(
                (0.1, 0.22, 0.035), (0.12, side * 0.38, -0.12), paint.plain, turn=(-side * 0.5, 0, side * 0.3)
            )
        )
        solids.append(ball((0.05, 0.04, 0.05), (0.08 + long * 0.7, side * 0.215, 0.06), BLACK))
    water, spout = (0.6, 0.85, 0.98), dice(0.2)
    solids.append(limb((0.2, 0, high * 0.9), (0.2, 0, high + spout), 0.03, 0.035, water))
    for side in SIDES:
        top = (0.2, side * 0.13, high + spout + 0.02)
        solids.append(limb((0.2, 0, high + spout * 0.9), top, 0.035, 0.055, water))
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


def snail(dice: Dice, paint: Paint) -> Figure:
    """Creeps; a coiled house, eyes on stalks."""
    r = dice(0.34)
    skin = paint.second((0.85, 0.72, 0.5))
    z = -0.36 + r
    solids = [
        limb((-0.5, 0, -0.42), (0.36, 0, -0.4), 0.06, 0.13, skin),
        limb((0.36, 0, -0.4), (0.5, 0, -0.14), 0.13, 0.12, skin, blend=0.05),
        ball((r, r * 0.62, r), (-0.1, 0, z), paint.main),
    ]
    for side in SIDES:
        for scale in (0.72, 0.36):
            solids.append(
                ring(
                    r * scale,
                    r * 0.13,
                    (-0.1, side * r * (0.62 - 0.34 * scale), z),
                    shaded(paint.plain, 0.62),
                    turn=(math.pi / 2, 0, 0),
                )
            )
        stalk = (0.58, side * 0.12, dice(0.12))
        solids.append(limb((0.5, side * 0.05, -0.1), stalk, 0.035, 0.028, skin))
        solids.append(ball(0.062, stalk, WHITE))
        solids.append(ball(0.04, (stalk[0] + 0.045, stalk[1], stalk[2]), BLACK))
    return Figure(solids)


def butterfly(dice: Dice, paint: Paint) -> Figure:
    """Sits with raised wings, two on each side, feelers ahead."""
    raised, fore, hind = dice(0.55, 0.4), dice(0.34), dice(0.25)
    body = paint.second((0.16, 0.12, 0.1))
    solids = [limb((-0.3, 0, -0.1), (0.22, 0, -0.02), 0.05, 0.075, body), ball(0.1, (0.3, 0, 0.02), body)]
    for side in SIDES:
        lift = (side * raised, 0, 0)
        for x, reach, out in ((0.14, fore, 1.0), (-0.24, hind, 0.95)):
            y = reach * out
            at = (x, side * y * math.cos(raised), y * math.sin(raised) - 0.02)
            solids.append(
                ball(
                    (reach * 0.72, reach, 0.035),
                    at,
                    paint.main,
                    turn=(lift[0], 0, side * (0.35 if x > 0 else -0.35)),
                )
            )
            spot = (at[0], at[1] * 1.15, at[2] * 1.15 + 0.004)
            solids.append(
                ball(
                    (reach * 0.27, reach * 0.3, 0.045),
                    spot,
                    shaded(paint.plain, 1.65) if paint.trim is None else paint.trim,
                    turn=lift,
                )
            )
        solids.append(limb((0.34, side * 0.04, 0.08), (0.52, side * 0.16, 0.3), 0.018, 0.016, body))
        solids.append(ball(0.035, (0.52, side * 0.16, 0.3), body))
    return Figure(solids)


def octopus(dice: Dice, paint: Paint) -> Figure:
    """A round head above eight arms that curl outwards."""
    head = Head((0, 0, 0.2), dice(0.33, 0.1))
    r = head.radius
    arm, curl = dice(0.5), dice(0.12, 0.6)
    solids = [ball((r, r, r * dice(1.12)), head.at, paint.main)]
    for (x, y, _), _ in around(8, 1.0, 0.0, dice.random.uniform(0, math.tau)):
        knee = (x * arm * 0.75, y * arm * 0.75, -0.36)
        solids.append(limb((x * 0.12, y * 0.12, -0.02), knee, 0.12, 0.085, paint.main, blend=0.05))
        solids.append(limb(knee, (x * arm * 1.3, y * arm * 1.3, -0.4), 0.085, 0.07, paint.main))
        solids.append(
            limb(
                (x * arm * 1.3, y * arm * 1.3, -0.4),
                (x * arm * 1.45, y * arm * 1.45, -0.36 + curl),
                0.07,
                0.045,
                paint.main,
            )
        )
    mouth = ring(r * 0.2, 0.022, (r * 0.93, 0, 0.06), shaded(paint.plain, 0.4), turn=(0, math.pi / 2, 0))
    return Figure([*solids, mouth, *eyes(head, size=0.24, up=0.25)], head)


def ladybug(dice: Dice, paint: Paint) -> Figure:
    """A domed back with dots and a line, a black head with feelers."""
    wide, high = dice(0.4), dice(0.36)
    dots = paint.second(BLACK)
    head = Head((wide + 0.1, 0, -0.06), dice(0.2, 0.1))
    solids = [
        ball((wide * 1.15, wide, high), (0, 0, -0.18), paint.main, floor=0.0),
        ball((wide * 1.17, 0.022, high * 1.02), (0, 0, -0.18), dots, floor=0.0),
        ball(head.radius, head.at, (0.09, 0.09, 0.1)),
    ]
    for side in SIDES:
        for x, out in ((0.5, 0.45), (-0.1, 0.62), (-0.62, 0.4)):
            up = math.sqrt(1 - x * x - out * out)
            at = (x * wide * 1.15, side * out * wide, -0.18 + up * high)
            solids.append(ball((0.1, 0.1, 0.1), (at[0] * 0.93, at[1] * 0.93, at[2] - 0.035), dots))
        solids.append(
            limb(
                (wide + 0.16, side * 0.06, 0.08),
                (wide + 0.3, side * 0.16, 0.26),
                0.02,
                0.018,
                (0.09, 0.09, 0.1),
            )
        )
        for x in (-0.25, 0.05, 0.32):
            solids.append(
                limb(
                    (x, side * wide * 0.7, -0.2),
                    (x, side * (wide + 0.1), -0.32),
                    0.045,
                    0.04,
                    (0.09, 0.09, 0.1),
                )
            )
    return Figure(solids + eyes(head, up=0.3), head)


def frog(dice: Dice, paint: Paint) -> Figure:
    """Squats; eyes on top of its head, a wide mouth, long feet."""
    wide = dice(0.34)
    second = paint.second(shaded(paint.plain, 1.55))
    solids = [
        ball((wide * 1.1, wide, 0.28), (-0.08, 0, -0.2), paint.main, turn=(0, -0.3, 0)),
        ball((wide * 0.8, wide * 0.92, 0.2), (0.18, 0, 0.03), paint.main, blend=0.06),
        ball((wide * 0.5, wide * 0.7, 0.2), (0.24, 0, -0.2), second),
        ball((0.2, wide * 0.72, 0.022), (0.18 + wide * 0.68, 0, -0.02), shaded(paint.plain, 0.35)),
    ]
    for side in SIDES:
        eye = (0.2, side * wide * 0.52, dice(0.22, 0.08))
        solids.append(ball(0.125, eye, paint.plain))
        solids.append(ball(0.1, (eye[0] + 0.05, eye[1], eye[2] + 0.03), WHITE))
        solids.append(ball(0.062, (eye[0] + 0.12, eye[1], eye[2] + 0.04), BLACK))
        solids.append(
            ball((0.24, 0.12, 0.16), (-0.16, side * wide * 1.02, -0.26), paint.main, turn=(0, 0.4, 0))
        )
        solids.append(ball((0.2, 0.1, 0.04), (0.06, side * wide * 1.12, -0.42), second))
        solids.append(
            limb((0.22, side * wide * 0.7, -0.12), (0.36, side * wide * 0.75, -0.4), 0.07, 0.06, paint.main)
        )
        solids.append(ball((0.12, 0.09, 0.035), (0.42, side * wide * 0.78, -0.43), second))
    return Figure(solids)


SMALL_ANIMALS = {
    "penguin": penguin,
    "duck": duck,
    "fish": fish,
    "whale": whale,
    "turtle": turtle,
    "snail": snail,
    "butterfly": butterfly,
    "octopus": octopus,
    "ladybug": ladybug,
    "frog": frog,
}
