"""Treasures, toys and characters of the starter's world."""

from __future__ import annotations

import math

from ..sdf import Solid
from .parts import (
    BLACK,
    DARK_WOOD,
    GOLD,
    ORANGE,
    RED,
    ROSE,
    SILVER,
    STEEL,
    WARM,
    WHITE,
    Dice,
    Figure,
    Head,
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
WHEEL = (math.pi / 2, 0.0, 0.0)


def chest(dice: Dice, paint: Paint) -> Figure:
    """A treasure chest with a round lid, bands and a lock."""
    x, y, z = dice(0.3), dice(0.45, 0.1), dice(0.19)
    band = paint.second(GOLD)
    lid = -0.25 + z
    solids = [
        box((x, y, z), (0, 0, -0.25), paint.main, rounding=0.01),
        tube(x, y, (0, 0, lid), paint.main, turn=WHEEL),
        box((x + 0.015, y + 0.012, 0.028), (0, 0, lid), shaded(paint.plain, 0.55), rounding=0.01),
    ]
    for side in dice.pick((-0.62, 0.62), (-0.85, 0.85), (-0.7, 0.0, 0.7)):
        solids.append(box((x + 0.02, 0.05, z + 0.01), (0, side * y, -0.25), band, rounding=0.01))
        solids.append(tube(x + 0.02, 0.05, (0, side * y, lid), band, turn=WHEEL))
    solids.append(
        box((0.04, 0.085, 0.1), (x + 0.02, 0, lid), SILVER if paint.trim is None else band, rounding=0.01)
    )
    solids.append(ball(0.03, (x + 0.06, 0, lid), BLACK))
    return Figure(solids)


def sword(dice: Dice, paint: Paint) -> Figure:
    """Stands on its point; a blade, a guard, a grip, a pommel."""
    long, wide = dice(0.5, 0.1), dice(0.085)
    guard = paint.second(GOLD)
    return Figure(
        [
            box((0.03, wide, long), (0, 0, -0.12), paint.main, rounding=0.012),
            cone(
                wide * 1.38,
                0.01,
                0.1,
                (0, 0, -0.22 - long),
                paint.main,
                sides=4,
                turn=(math.pi, 0, math.pi / 4),
            ),
            box((0.3, 0.5, 0.3), (0.33, 0, -0.3 - long), paint.plain, carve=True, rounding=0),
            box((0.3, 0.5, 0.3), (-0.33, 0, -0.3 - long), paint.plain, carve=True, rounding=0),
            box((0.045, 0.022, long * 0.8), (0, 0, -0.12), shaded(paint.plain, 0.7), rounding=0.008),
            box((0.06, dice(0.26), 0.045), (0, 0, long - 0.1), guard, rounding=0.035),
            limb((0, 0, long - 0.08), (0, 0, long + 0.16), 0.05, 0.045, DARK_WOOD),
            ball(0.085, (0, 0, long + 0.22), guard),
        ]
    )


def shield(dice: Dice, paint: Paint) -> Figure:
    """Pointed below or round, a rim of metal, an emblem."""
    rim = paint.second(SILVER)
    if dice.chance(0.4):
        r = dice(0.5, 0.08)
        solids = [
            tube(r, 0.04, (0, 0, 0), paint.main, turn=LIE, rounding=0.02),
            ring(r, 0.05, (0, 0, 0), rim, turn=LIE),
            ball((0.13, 0.15, 0.15), (0.05, 0, 0), rim),
        ]
        solids += [ball(0.04, (0.05, y, z), rim) for (y, z, _), _ in around(8, r * 0.8, 0.0)]
        return Figure(solids)
    wide, tall = dice(0.38, 0.1), dice(0.3)

    def body(x: float, thick: float, grow: float, color: object) -> list[Solid]:
        return [
            box((thick, wide + grow, tall * 0.7 + grow), (x, 0, 0.28), color, rounding=0.02),  # type: ignore[arg-type]
            ball((thick * 1.1, wide + grow, tall * 2.2 + grow * 1.2), (x, 0, 0.1), color),  # type: ignore[arg-type]
        ]

    solids = body(0.0, 0.05, 0.05, rim) + body(0.03, 0.055, 0.0, paint.main)
    solids.append(box((0.03, 0.055, 0.36), (0.085, 0, 0.02), rim, rounding=0.01))
    solids.append(box((0.03, wide * 0.7, 0.055), (0.085, 0, 0.14), rim, rounding=0.01))
    solids.append(box((0.5, 0.8, 0.3), (0, 0, 0.28 + tall * 0.7 + 0.05 + 0.3), rim, carve=True, rounding=0))
    return Figure(solids)


def key(dice: Dice, paint: Paint) -> Figure:
    """A ring to hold, a shaft, teeth."""
    r = dice(0.2, 0.1)
    second = paint.second(paint.plain)
    solids = [
        ring(r, dice(0.065), (0, 0, 0.36), paint.main, turn=LIE),
        limb((0, 0, 0.36 - r), (0, 0, -0.55), 0.06, 0.06, paint.main),
        ring(0.065, 0.035, (0, 0, 0.34 - r - 0.05), second),
    ]
    for z, reach in (
        ((-0.5, 0.26), (-0.36, dice(0.2)))
        if dice.chance(0.6)
        else ((-0.52, 0.24), (-0.41, 0.16), (-0.3, 0.24))
    ):
        solids.append(box((0.045, reach / 2, 0.045), (0, reach / 2, z), paint.main, rounding=0.015))
    if dice.chance(0.5):
        for side in SIDES:
            solids.append(ring(r * 0.62, 0.055, (0, side * r * 0.95, 0.32), paint.main, turn=LIE))
    return Figure(solids)


def crown(dice: Dice, paint: Paint) -> Figure:
    """A hollow band with points, balls and jewels."""
    r, h, count = dice(0.42, 0.08), dice(0.17), dice.pick(5, 6, 7)
    jewel = paint.second(RED if paint.plain[0] < 0.8 or paint.plain[1] > 0.3 else (0.2, 0.4, 0.95))
    solids = [cone(r * 0.92, r, h, (0, 0, -0.2), paint.main)]
    for (x, y, z), _ in around(count, r * 0.98, -0.2 + h + 0.14):
        solids.append(cone(r * 2.2 / count, 0.015, 0.17, (x, y, z), paint.main))
        solids.append(ball(0.062, (x * 1.02, y * 1.02, z + 0.2), jewel))
    solids.append(cone(r * 0.82, r * 0.9, 0.6, (0, 0, 0.2), shaded(paint.plain, 0.7), carve=True))
    for (x, y, z), a in around(count, r * 0.98, -0.2, math.pi / count):
        solids.append(ball((0.04, 0.06, 0.075), (x, y, z), jewel, turn=(0, 0, a)))
    solids.append(ring(r * 0.92, 0.04, (0, 0, -0.2 - h), shaded(paint.plain, 0.8)))
    return Figure(solids)


def gem(dice: Dice, paint: Paint) -> Figure:
    """A cut diamond: a flat top above a point."""
    r, sides = dice(0.48, 0.08), dice.pick(6, 8, 8)
    turn = dice.random.uniform(0, 1)
    bright = shaded(paint.plain, 1.35)
    return Figure(
        [
            cone(
                r,
                r * dice(0.58, 0.1),
                dice(0.11),
                (0, 0, 0.28),
                paint.second(bright),
                sides=sides,
                turn=(0, 0, turn),
            ),
            cone(0.01, r, dice(0.33, 0.1), (0, 0, -0.14), paint.main, sides=sides, turn=(0, 0, turn)),
        ]
    )


def skull(dice: Dice, paint: Paint) -> Figure:
    """Dark eye sockets, a nose, rows of teeth."""
    r = dice(0.38, 0.08)
    head = Head((0, 0, 0.16), r)
    jaw = dice(0.17)
    dark = paint.second(BLACK if max(paint.plain) > 0.2 else WHITE)
    solids = [
        ball((r * 1.05, r * 0.95, r), head.at, paint.main),
        box((0.2, 0.22, jaw), (0.14, 0, -0.2), paint.main, rounding=0.07, blend=0.08),
    ]
    for side in SIDES:
        solids.append(ball((0.14, 0.11, 0.12), (r * 0.98, side * 0.15, 0.1), dark, carve=True))
    solids.append(ball((0.1, 0.05, 0.075), (r * 1.02, 0, -0.07), dark, carve=True))
    solids.append(box((0.02, 0.17, 0.075), (0.335, 0, -0.27), (0.12, 0.09, 0.08), rounding=0.01))
    for y in (-0.12, -0.04, 0.04, 0.12):
        for up in SIDES:
            solids.append(box((0.03, 0.034, 0.034), (0.34, y, -0.27 + up * 0.037), WHITE, rounding=0.012))
    return Figure(solids, head)


def ghost(dice: Dice, paint: Paint) -> Figure:
    """A sheet with a wavy hem, raised arms, round eyes and an open mouth."""
    r = dice(0.33, 0.1)
    head = Head((0, 0, 0.22), r)
    solids = [
        ball((r, r, r * 1.1), head.at, paint.main),
        cone(r * dice(1.25, 0.1), r * 0.98, 0.32, (0, 0, -0.12), paint.main, blend=0.05),
    ]
    for (x, y, _), _a in around(7, r * 1.02, 0.0, 0.2):
        solids.append(limb((x, y, -0.3), (x * 1.15, y * 1.15, -0.5), 0.13, 0.09, paint.main, blend=0.03))
    lift = dice(0.14, 0.8)
    for side in SIDES:
        solids.append(
            limb(
                (0.06, side * r * 0.8, 0.0), (0.2, side * (r + 0.26), lift), 0.1, 0.08, paint.main, blend=0.03
            )
        )
        solids.append(
            ball(
                (0.06, 0.07, 0.1),
                (r * 0.9, side * 0.12, 0.28),
                paint.second(BLACK if max(paint.plain) > 0.2 else WHITE),
            )
        )
    solids.append(
        ball(
            (0.06, 0.065, 0.085),
            (r * 0.97, 0, 0.06),
            paint.second(BLACK if max(paint.plain) > 0.2 else WHITE),
        )
    )
    return Figure(solids, head)


def robot(dice: Dice, paint: Paint) -> Figure:
    """A boxy head with an antenna and round eyes, jointed arms, feet."""
    wide, torso, r = dice(0.23), dice(0.24), dice(0.175)
    top = torso + 0.06 + r
    second = paint.second(STEEL)
    head = Head((0, 0, top), r)
    solids = [
        box((0.18, wide + 0.02, torso + 0.02), (0, 0, 0), paint.main, rounding=0.03),
        box((r, r * 1.2, r * 0.9), head.at, paint.main, rounding=0.03),
        tube(0.06, 0.1, (0, 0, torso + 0.02), second),
        box((0.03, wide * 0.62, torso * 0.36), (0.18, 0, 0.06), second, rounding=0.01),
        box((0.02, r * 0.6, 0.028), (r, 0, top - r * 0.45), BLACK, rounding=0.005),
    ]
    solids += [
        ball(0.03, (0.205, y, 0.06), color)
        for y, color in ((-0.07, RED), (0.0, GOLD), (0.07, (0.2, 0.8, 0.3)))
    ]
    for side in SIDES:
        solids.append(ball((0.04, 0.065, 0.065), (r, side * r * 0.5, top + 0.03), WARM))
        solids.append(ball(0.03, (r + 0.035, side * r * 0.5, top + 0.03), BLACK))
        hand = (dice(0.1, 1.0), side * (wide + 0.15), -0.2)
        solids.append(limb((0, side * (wide + 0.06), 0.16), hand, 0.06, 0.055, second))
        solids.append(ball(0.09, hand, paint.plain))
        solids.append(tube(0.075, 0.13, (0, side * wide * 0.55, -torso - 0.13), second))
        solids.append(
            box((0.16, 0.11, 0.06), (0.04, side * wide * 0.55, -torso - 0.28), paint.plain, rounding=0.02)
        )
        solids.append(tube(0.07, 0.03, (0, side * (r * 1.2 + 0.01), top), second, turn=WHEEL))
    if dice.chance(0.7):
        solids += [
            limb((0, 0, top + r * 0.8), (0, 0, top + r + 0.16), 0.018, 0.018, second),
            ball(0.052, (0, 0, top + r + 0.18), RED if paint.plain[1] > 0.2 else GOLD),
        ]
    return Figure(solids, head)


def snowman(dice: Dice, paint: Paint) -> Figure:
    """Three balls of snow, a carrot nose, buttons, arms of twigs, a hat."""
    low, mid, r = dice(0.38, 0.1), dice(0.28, 0.1), dice(0.2, 0.08)
    z1 = -0.3 + low * 0.72 + mid * 0.6
    z2 = z1 + mid * 0.7 + r * 0.6
    head = Head((0, 0, z2), r)
    solids = [
        ball(low, (0, 0, -0.3), paint.main),
        ball(mid, (0, 0, z1), paint.main),
        ball(r, head.at, paint.main),
        cone(0.05, 0.008, dice(0.12), (r + 0.07, 0, z2), ORANGE, turn=LIE),
    ]
    dark = BLACK if max(paint.plain) > 0.2 else WHITE
    for side in SIDES:
        solids.append(ball(0.036, (r * 0.9, side * 0.08, z2 + 0.06), dark))
        hand = (0.08, side * (mid + 0.3), z1 + dice(0.24))
        solids.append(limb((0, side * mid * 0.85, z1 + 0.02), hand, 0.03, 0.022, DARK_WOOD))
        solids.append(
            limb(
                (0.06, side * (mid + 0.2), z1 + 0.18),
                (0.1, side * (mid + 0.34), z1 + 0.12),
                0.02,
                0.016,
                DARK_WOOD,
            )
        )
    solids += [ball(0.036, (mid * 0.96, 0, z1 + dz), paint.second(dark)) for dz in (-0.09, 0.04)]
    wears_hat = dice.chance(0.5)
    if wears_hat:
        hat = paint.second(dark)
        solids += [
            tube(r * 1.25, 0.022, (0, 0, z2 + r * 0.72), hat),
            tube(r * 0.8, 0.12, (0, 0, z2 + r * 0.72 + 0.12), hat),
        ]
    return Figure(solids, None if wears_hat else head)


def heart(dice: Dice, paint: Paint) -> Figure:
    """A plump heart: two lobes that lean together and meet in a point."""
    thick, wide, tall = dice(0.22), dice(0.25, 0.08), dice(0.46, 0.06)
    lean = dice(0.62, 0.08)
    solids = []
    for side in SIDES:
        at = (0, side * math.sin(lean) * tall * 0.52, 0)
        solids.append(ball((thick, wide, tall), at, paint.main, turn=(-side * lean, 0, 0), blend=0.03))
    return Figure(solids)


def star(dice: Dice, paint: Paint) -> Figure:
    """Five points; sometimes it smiles."""
    r = dice(0.52, 0.06)
    up = (0.0, -math.pi / 2, 0.0)
    solids = [Solid("star", (r, r * dice(0.5, 0.1), 0.06), (0, 0, 0), paint.main, turn=up, rounding=0.05)]
    if dice.chance(0.6):
        for side in SIDES:
            solids.append(
                ball(
                    (0.03, 0.04, 0.065), (0.11, side * 0.11, 0.08), BLACK if max(paint.plain) > 0.2 else WHITE
                )
            )
            solids.append(ball((0.02, 0.05, 0.035), (0.1, side * 0.2, -0.02), ROSE))
        smile = [(0.11, -0.08, -0.05), (0.115, -0.04, -0.09), (0.115, 0.04, -0.09), (0.11, 0.08, -0.05)]
        solids += path(smile, 0.016, BLACK if max(paint.plain) > 0.2 else WHITE)
    return Figure(solids)


TREASURES = {
    "chest": chest,
    "sword": sword,
    "shield": shield,
    "key": key,
    "crown": crown,
    "gem": gem,
    "skull": skull,
    "ghost": ghost,
    "robot": robot,
    "snowman": snowman,
    "heart": heart,
    "star": star,
}
