"""Plants, fruit and sweets of the starter's world."""

from __future__ import annotations

import math

from ..sdf import Solid
from .parts import (
    CLAY,
    CREAM,
    DARK_WOOD,
    GOLD,
    LEAF,
    RED,
    ROSE,
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


def mushroom(dice: Dice, paint: Paint) -> Figure:
    """A spotted cap on a pale stem, sometimes with a small one beside it."""

    def one(x: float, y: float, ground: float, size: float) -> list[Solid]:
        r, high, stem = size * dice(0.52), size * dice(0.42), size * dice(0.18)
        cap = ground + size * dice(0.58)
        solids = [
            cone(
                stem * 1.25, stem * 0.85, (cap - ground) / 2, (x, y, (cap + ground) / 2), CREAM, rounding=0.02
            ),
            ball((r, r, high), (x, y, cap), paint.main, floor=-0.08 * size),
        ]
        turn = dice.random.uniform(0, math.tau)
        for i in range(7):
            a, e = turn + i * math.tau / 6, (0.62 if i < 6 else math.pi / 2)
            at = (
                x + r * math.cos(a) * math.cos(e),
                y + r * math.sin(a) * math.cos(e),
                cap + high * math.sin(e),
            )
            solids.append(ball(0.1 * size, (at[0], at[1], at[2] - 0.02), paint.second(WHITE)))
        return solids

    solids = one(0, 0, -0.55, 1.0)
    if dice.chance(0.35):
        side = dice.pick(-1, 1)
        solids += one(0.25, side * 0.42, -0.55, 0.5)
    return Figure(solids)


def cactus(dice: Dice, paint: Paint) -> Figure:
    """Arms that bend upwards, a flower, a pot of clay."""
    r, h = dice(0.15), dice(0.42)
    solids = [limb((0, 0, -0.4), (0, 0, h), r, r, paint.main)]
    for side in dice.pick((-1, 1), (-1, 1), (-1, 1), (1,)):
        z, reach, arm = dice(0.02, 4.0), dice(0.36), dice(0.3)
        solids.append(limb((0, 0, z), (0, side * reach, z), r * 0.62, r * 0.62, paint.main))
        solids.append(limb((0, side * reach, z), (0, side * reach, z + arm), r * 0.62, r * 0.6, paint.main))
    pot = paint.second(CLAY)
    solids += [
        cone(0.19, 0.26, 0.14, (0, 0, -0.5), pot, rounding=0.01),
        tube(0.29, 0.045, (0, 0, -0.36), shaded(pot, 0.85), rounding=0.01),
    ]
    if dice.chance(0.6):
        solids.append(ball((0.1, 0.1, 0.07), (0, 0, h + r), (0.97, 0.35, 0.6)))
    return Figure(solids)


def tree(dice: Dice, paint: Paint) -> Figure:
    """A fir of three or four storeys, or a round crown of leaves, on a trunk."""
    trunk = paint.second(WOOD)
    if dice.chance(0.55):
        r, storeys = dice(0.46), dice.pick(3, 3, 4)
        solids = [tube(dice(0.09), 0.2, (0, 0, -0.52), trunk)]
        for i in range(storeys):
            width = r * (1 - 0.5 * i / (storeys - 1))
            high = 0.52 / storeys
            solids.append(
                cone(
                    width, width * 0.3, high, (0, 0, -0.32 + high + i * high * 1.5), paint.main, rounding=0.02
                )
            )
        solids.append(
            cone(r * 0.34, 0.02, 0.12, (0, 0, -0.21 + 0.52 / storeys * (0.5 + 1.5 * storeys)), paint.main)
        )
        return Figure(solids)
    r = dice(0.36)
    solids = [limb((0, 0, -0.6), (0, 0, 0.1), dice(0.1), 0.07, trunk), ball(r, (0, 0, 0.25), paint.main)]
    for (x, y, z), _ in around(5, r * 0.62, dice(0.2), dice.random.uniform(0, 6)):
        solids.append(
            ball(r * dice(0.62), (x, y, z + dice.random.uniform(-0.08, 0.12)), paint.main, blend=0.04)
        )
    return Figure(solids)


def flower(dice: Dice, paint: Paint) -> Figure:
    """Petals about a yellow middle that looks at you, on a stem with two leaves."""
    count, petal = dice.pick(5, 6, 6, 8), dice(0.22)
    z, middle = 0.26, dice(0.15)
    solids = [limb((0, 0, -0.62), (0, 0, z), 0.04, 0.035, LEAF)]
    for i in range(count):
        a = math.tau * i / count
        at = (0.05, (middle + petal * 0.62) * math.cos(a), z + (middle + petal * 0.62) * math.sin(a))
        solids.append(ball((0.05, petal, petal * min(1.0, 3.6 / count)), at, paint.main, turn=(a, 0, 0)))
    solids.append(
        ball(
            (0.09, middle, middle),
            (0.08, 0, z),
            paint.second((0.98, 0.8, 0.1) if paint.plain[2] > 0.3 or paint.plain[1] < 0.6 else DARK_WOOD),
        )
    )
    for side in (-1, 1):
        solids.append(
            ball((0.05, 0.19, 0.07), (0, side * 0.18, -0.34 + side * 0.05), LEAF, turn=(side * 0.5, 0, 0))
        )
    return Figure(solids)


def pumpkin(dice: Dice, paint: Paint) -> Figure:
    """Ribs all around and a stalk; sometimes a face is cut into it."""
    r, flat = dice(0.3, 0.1), dice(0.8)
    solids = [ball((0.34, 0.34, 0.4 * flat), (0, 0, 0), paint.main)]
    for (x, y, z), a in around(8, 0.2, 0.0):
        solids.append(ball((r, r * 0.66, 0.47 * flat), (x * 1.1, y * 1.1, z), paint.main, turn=(0, 0, a)))
    solids.append(
        limb((0, 0, 0.3 * flat), (0.06, 0.02, 0.42 * flat + dice(0.16)), 0.07, 0.045, paint.second(LEAF))
    )
    if dice.chance(0.5):
        front = r + 0.22
        for side in (-1, 1):
            solids.append(ball((0.05, 0.075, 0.09), (front - 0.055, side * 0.15, 0.1), WARM))
        solids.append(ball((0.05, 0.045, 0.05), (front, 0, 0.0), WARM))
        solids.append(box((0.05, 0.17, 0.04), (front - 0.03, 0, -0.13), WARM, rounding=0.03))
    return Figure(solids)


def apple(dice: Dice, paint: Paint) -> Figure:
    """A dent on top, a stalk and a leaf."""
    r, tall = dice(0.42, 0.08), dice(0.95, 0.1)
    solids = [
        ball((r, r, r * tall), (0, 0, 0), paint.main),
        ball((r * 0.72, r * 0.72, r * 0.6), (0, 0, -r * 0.42), paint.main, blend=0.1),
        ball((0.17, 0.17, 0.13), (0, 0, r * tall + 0.02), shaded(paint.plain, 0.6), carve=True, blend=0.05),
        limb((0, 0, r * tall - 0.14), (0.04, 0.03, r * tall + dice(0.16)), 0.028, 0.024, DARK_WOOD),
        ball(
            (0.19, 0.085, 0.03),
            (0.2, 0.05, r * tall + 0.08),
            paint.second(LEAF),
            turn=(0, -0.4, dice(0.5, 0.9)),
        ),
    ]
    return Figure(solids)


def carrot(dice: Dice, paint: Paint) -> Figure:
    """A long root with rings, leaves above."""
    r, long = dice(0.2), dice(0.85, 0.1)
    solids = [limb((0, 0, 0.2), (0, 0, 0.2 - long), r, 0.035, paint.main)]
    for i in range(4):
        at = 0.12 - i * long * 0.21
        width = r + (0.035 - r) * (0.2 - at) / long
        solids.append(ring(width * 0.97, 0.012, (0, 0, at), shaded(paint.plain, 0.72)))
    solids.append(limb((0, 0, 0.3), (0, 0, 0.62), 0.05, 0.06, paint.second(LEAF)))
    for (x, y, _), _ in around(5, 1.0, 0.0, dice.random.uniform(0, 6)):
        lean = dice(0.18)
        solids.append(
            limb(
                (x * 0.05, y * 0.05, 0.32),
                (x * lean, y * lean, dice(0.62, 0.12)),
                0.03,
                0.06,
                paint.second(LEAF),
            )
        )
    return Figure(solids)


def ice_cream(dice: Dice, paint: Paint) -> Figure:
    """One or two scoops in a waffle cone, a cherry on top."""
    r = dice(0.27, 0.1)
    waffle = (0.87, 0.62, 0.32)
    second = paint.second(shaded(paint.plain, 1.5))
    solids = [
        cone(0.03, r * 0.88, 0.38, (0, 0, -0.36), waffle),
        ring(r * 0.9, 0.045, (0, 0, 0.0), shaded(waffle, 0.85)),
    ]
    solids.append(ball(r, (0, 0, 0.1), paint.main))
    solids += [
        ball(r * 0.3, (p[0], p[1], p[2]), paint.main, blend=0.04) for p, _ in around(7, r * 0.84, 0.03)
    ]
    top = 0.1
    if dice.chance(0.6) or paint.trim:
        top += r * 1.15
        solids.append(ball(r * 0.86, (0, 0, top), second, blend=0.02))
    solids.append(
        ball(
            0.08,
            (0, 0, top + r * (0.95 if top < 0.2 else 0.85) + 0.04),
            RED if paint.plain != RED else (0.5, 0.05, 0.2),
        )
    )
    return Figure(solids)


def cupcake(dice: Dice, paint: Paint) -> Figure:
    """A pleated paper case, icing in three turns, a cherry."""
    case = paint.second(WARM)
    r = dice(0.34, 0.1)
    solids = [cone(r * 0.74, r, 0.2, (0, 0, -0.38), case)]
    solids += [
        limb((x * 0.74, y * 0.74, -0.58), (x, y, -0.19), 0.028, 0.034, shaded(case, 0.8))
        for (x, y, _), _ in around(14, r, 0)
    ]
    for i, width in enumerate((1.06, 0.8, 0.5)):
        solids.append(ball((r * width, r * width, 0.16), (0, 0, -0.12 + 0.17 * i), paint.main))
    solids.append(ball(0.1, (0, 0, 0.4), RED if paint.plain[0] < 0.7 or paint.plain[1] > 0.3 else WHITE))
    if dice.chance(0.5):
        for i, ((x, y, z), _a) in enumerate(around(9, r * 0.86, 0.0)):
            color = (GOLD, ROSE, (0.3, 0.6, 0.95))[i % 3]
            solids.append(limb((x, y, z - 0.01), (x * 0.85, y * 0.85, z + 0.06), 0.022, 0.022, color))
    return Figure(solids)


def donut(dice: Dice, paint: Paint) -> Figure:
    """A ring of dough with icing and sprinkles, lying or leaning."""
    thick = dice(0.19)
    dough = (0.80, 0.55, 0.28)
    lean = (0, dice(0.9, 0.25), 0)
    big = 0.38

    def tilt(x: float, y: float, z: float) -> tuple[float, float, float]:
        c, s = math.cos(lean[1]), math.sin(lean[1])
        return (c * x + s * z, y, -s * x + c * z)

    solids = [
        ring(big, thick, (0, 0, 0), dough, turn=lean),
        ring(big, thick * 1.03, tilt(0, 0, 0.035), paint.main, turn=lean),
        ring(big, thick * 1.045, tilt(0, 0, -0.05), dough, turn=lean),
    ]
    colors = (paint.second(WHITE), paint.second((0.2, 0.45, 0.95)), paint.second((0.98, 0.85, 0.2)))
    for i in range(14):
        a, out = i * math.tau / 14, big + (0.55 if i % 2 else -0.5) * thick
        up = math.sqrt(thick**2 - (out - big) ** 2) + 0.045
        at, b = tilt(out * math.cos(a), out * math.sin(a), up), a + i
        end = tilt(out * math.cos(a) + 0.06 * math.cos(b), out * math.sin(a) + 0.06 * math.sin(b), up)
        solids.append(limb(at, end, 0.024, 0.024, colors[i % 3]))
    return Figure(solids)


def cake(dice: Dice, paint: Paint) -> Figure:
    """Two tiers with icing that runs down, and candles that burn."""
    r = dice(0.44, 0.1)
    icing = paint.second(WHITE if min(paint.plain) < 0.8 else ROSE)
    solids = [
        tube(r + 0.1, 0.02, (0, 0, -0.5), (0.8, 0.82, 0.86), rounding=0.01),
        tube(r, 0.17, (0, 0, -0.3), paint.main, rounding=0.02),
        tube(r + 0.015, 0.03, (0, 0, -0.12), icing, rounding=0.03),
    ]
    solids += [
        limb(p, (p[0], p[1], p[2] - dice(0.12, 0.5)), 0.05, 0.045, icing)
        for p, _ in around(10, r - 0.01, -0.13)
    ]
    top, inner = -0.08, r * 0.62
    if dice.chance(0.6):
        solids += [
            tube(inner, 0.13, (0, 0, 0.03), paint.main, rounding=0.02),
            tube(inner + 0.015, 0.025, (0, 0, 0.17), icing, rounding=0.03),
        ]
        top = 0.2
    for (x, y, _), _ in around(dice.pick(3, 4, 5), inner * 0.6, 0.0):
        solids.append(tube(0.03, 0.12, (x, y, top + 0.12), (0.35, 0.6, 0.95)))
        solids.append(ball((0.035, 0.035, 0.065), (x, y, top + 0.31), (1.0, 0.7, 0.1)))
    return Figure(solids)


FOOD_AND_PLANTS = {
    "mushroom": mushroom,
    "cactus": cactus,
    "tree": tree,
    "flower": flower,
    "pumpkin": pumpkin,
    "apple": apple,
    "carrot": carrot,
    "ice cream": ice_cream,
    "cupcake": cupcake,
    "donut": donut,
    "cake": cake,
}
