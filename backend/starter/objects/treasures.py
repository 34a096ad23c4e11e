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
    ball,
    box,
    cone,
    limb,
    path,
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
    "robot": robot,
    "snowman": snowman,
    "heart": heart,
    "star": star,
}
