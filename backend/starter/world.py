"""The small world that the starter models know: a dozen kinds of objects, and their captions."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .sdf import Shape, Solid, Vec3, fit_to_sphere

COLORS: dict[str, Vec3] = {
    "red": (0.84, 0.09, 0.08),
    "orange": (0.97, 0.48, 0.04),
    "yellow": (0.97, 0.86, 0.10),
    "green": (0.13, 0.62, 0.18),
    "blue": (0.10, 0.28, 0.86),
    "purple": (0.46, 0.12, 0.72),
    "pink": (0.98, 0.50, 0.74),
    "white": (0.95, 0.95, 0.95),
}
BLACK, CREAM, WOOD, CLAY, ORANGE = (
    (0.06,) * 3,
    (0.93, 0.87, 0.72),
    (0.42, 0.25, 0.12),
    (0.62, 0.33, 0.2),
    COLORS["orange"],
)
GLASS, STEEL = (0.55, 0.8, 0.95), (0.3, 0.31, 0.34)

SYNONYMS: dict[str, tuple[str, ...]] = {
    "mushroom": ("mushroom", "toadstool"),
    "snowman": ("snowman",),
    "rocket": ("rocket", "spaceship"),
    "cactus": ("cactus",),
    "tree": ("tree", "fir", "pine"),
    "house": ("house", "cottage", "hut"),
    "car": ("car", "automobile"),
    "duck": ("duck", "duckling"),
    "fish": ("fish", "goldfish"),
    "robot": ("robot", "android"),
    "lamp": ("lamp",),
    "tower": ("tower", "turret", "castle tower"),
}
COLOR_SYNONYMS: dict[str, tuple[str, ...]] = {name: (name,) for name in COLORS} | {
    "red": ("red", "crimson"),
    "purple": ("purple", "violet"),
}
STRETCHES: dict[str, Vec3] = {
    "": (1, 1, 1),
    "tall": (0.88, 0.88, 1.2),
    "wide": (1.15, 1.15, 0.85),
}
TEMPLATES = ("a {}", "a {}", "{}", "the {}", "one {}", "a toy {}", "a model of a {}", "a {}, 3d asset")


@dataclass(frozen=True)
class WorldObject:
    """One object of the world and what is true of it."""

    shape: Shape
    category: str
    color: str
    caption: str


class _Dice:
    """A seeded source of proportions: `dice(0.4)` is 0.4 give or take an eighth."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def __call__(self, value: float, spread: float = 0.12) -> float:
        return value * self.random.uniform(1 - spread, 1 + spread)


def _mushroom(dice: _Dice, color: Vec3) -> list[Solid]:
    radius, height, stem = dice(0.55), dice(0.42), dice(0.2)
    cap = 0.1
    solids = [
        Solid("cone", (stem * 1.2, stem * 0.85, 0.36), (0, 0, -0.28), CREAM, rounding=0.02),
        Solid("ellipsoid", (radius, radius, height), (0, 0, cap), color, floor=-0.08),
    ]
    turn = dice.random.uniform(0, math.tau)
    for i in range(7):
        a, e = turn + i * math.tau / 6, (0.62 if i < 6 else math.pi / 2)
        at = (
            radius * math.cos(a) * math.cos(e),
            radius * math.sin(a) * math.cos(e),
            cap + height * math.sin(e),
        )
        solids.append(Solid("ellipsoid", (0.1, 0.1, 0.07), at, (0.97, 0.96, 0.92)))
    return solids


def _snowman(dice: _Dice, color: Vec3) -> list[Solid]:
    low, mid, head = dice(0.4, 0.07), dice(0.29, 0.07), dice(0.21, 0.07)
    z1, z2 = -0.3 + low * 0.72 + mid * 0.6, 0.0
    z2 = z1 + mid * 0.7 + head * 0.6
    solids = [
        Solid("ellipsoid", (low,) * 3, (0, 0, -0.3), color),
        Solid("ellipsoid", (mid,) * 3, (0, 0, z1), color),
        Solid("ellipsoid", (head,) * 3, (0, 0, z2), color),
        Solid("cone", (0.05, 0.008, dice(0.11)), (head + 0.06, 0, z2), ORANGE, turn=(0, math.pi / 2, 0)),
        Solid("cylinder", (head * 1.25, 0.02, 0), (0, 0, z2 + head * 0.72), BLACK),
        Solid("cylinder", (head * 0.8, dice(0.12), 0), (0, 0, z2 + head * 0.72 + 0.12), BLACK),
    ]
    for y in (-0.08, 0.08):
        solids.append(Solid("ellipsoid", (0.035,) * 3, (head * 0.9, y, z2 + 0.06), BLACK))
        reach = mid + 0.14
        solids.append(
            Solid(
                "capsule",
                (0.025, 0.17, 0),
                (0, math.copysign(reach, y), z1 + 0.1),
                WOOD,
                turn=(math.copysign(1.0, -y), 0, 0),
            )
        )
    for dz in (-0.08, 0.08):
        solids.append(Solid("ellipsoid", (0.035,) * 3, (mid * 0.96, 0, z1 + dz), BLACK))
    return solids


def _rocket(dice: _Dice, color: Vec3) -> list[Solid]:
    r, h = dice(0.22), dice(0.44, 0.08)
    solids = [
        Solid("cylinder", (r, h, 0), (0, 0, 0), color, rounding=0.01),
        Solid("ellipsoid", (r + 0.01, r + 0.01, dice(0.38)), (0, 0, h), (0.94, 0.94, 0.92), floor=0.0),
        Solid("cone", (r * 0.8, r * 0.5, 0.07), (0, 0, -h - 0.07), STEEL),
        Solid("ellipsoid", (0.06, 0.12, 0.12), (r, 0, h * 0.4), GLASS),
    ]
    fin = dice(0.2)
    for i in range(4):
        a = math.pi / 4 + i * math.pi / 2
        at = ((r + fin * 0.4) * math.cos(a), (r + fin * 0.4) * math.sin(a), -h + 0.06)
        solids.append(
            Solid("box", (fin * 0.6, 0.025, 0.17), at, (0.94, 0.94, 0.92), turn=(0, 0.35, a), rounding=0.01)
        )
    return solids


def _cactus(dice: _Dice, color: Vec3) -> list[Solid]:
    r, h = dice(0.15), dice(0.42)
    solids = [Solid("capsule", (r, h, 0), (0, 0, 0.12), color)]
    for side in (-1, 1):
        z, reach, arm = dice(0.08, 0.9), dice(0.36), dice(0.16)
        solids.append(
            Solid(
                "capsule", (r * 0.62, reach / 2, 0), (0, side * reach / 2, z), color, turn=(math.pi / 2, 0, 0)
            )
        )
        solids.append(Solid("capsule", (r * 0.62, arm, 0), (0, side * reach, z + arm), color))
    solids.append(Solid("cone", (0.2, 0.27, 0.15), (0, 0, -0.5), CLAY, rounding=0.01))
    solids.append(Solid("ellipsoid", (0.08, 0.08, 0.06), (0, 0, 0.12 + h + r), (0.95, 0.4, 0.6)))
    return solids


def _tree(dice: _Dice, color: Vec3) -> list[Solid]:
    r, top = dice(0.44), dice(0.3, 0.2)
    solids = [Solid("cylinder", (dice(0.09), 0.22, 0), (0, 0, -0.55), WOOD)]
    for i, width in enumerate((1.0, 0.78, 0.54)):
        solids.append(
            Solid(
                "cone",
                (r * width, r * width * 0.12, top * 0.75),
                (0, 0, -0.2 + i * top * 0.95),
                color,
                rounding=0.02,
            )
        )
    return solids


def _house(dice: _Dice, color: Vec3) -> list[Solid]:
    x, y, z, roof = dice(0.42), dice(0.42), dice(0.3), dice(0.2)
    roof_color = WOOD if color != WOOD else CLAY
    return [
        Solid("box", (x, y, z), (0, 0, -0.2), color),
        Solid("prism", (x + 0.07, y + 0.1, roof), (0, 0, -0.2 + z + roof), roof_color),
        Solid("box", (0.03, 0.1, 0.17), (x, 0, -0.2 - z + 0.17), BLACK),
        Solid("box", (0.03, 0.07, 0.07), (x, y * 0.6, -0.13), GLASS),
        Solid("box", (0.03, 0.07, 0.07), (x, -y * 0.6, -0.13), GLASS),
        Solid("box", (0.1, 0.03, 0.09), (0, y, -0.15), GLASS),
        Solid("box", (0.1, 0.03, 0.09), (0, -y, -0.15), GLASS),
        Solid("box", (0.07, 0.07, 0.2), (-x * 0.5, y * 0.45, -0.2 + z + roof * 1.5), CLAY),
    ]


def _car(dice: _Dice, color: Vec3) -> list[Solid]:
    length, width, cabin = dice(0.62, 0.08), dice(0.29), dice(0.3)
    solids = [
        Solid("box", (length, width, 0.12), (0, 0, -0.06), color, rounding=0.05),
        Solid("box", (cabin, width * 0.85, 0.13), (-0.08, 0, 0.2), color, rounding=0.04),
        Solid("box", (cabin + 0.035, width * 0.7, 0.08), (-0.08, 0, 0.21), GLASS, rounding=0.02),
        Solid("box", (cabin * 0.8, width * 0.85 + 0.03, 0.08), (-0.08, 0, 0.21), GLASS, rounding=0.02),
    ]
    for x in (-0.6, 0.6):
        for y in (-1, 1):
            at = (x * length, y * (width + 0.02), -0.2)
            solids.append(
                Solid(
                    "cylinder",
                    (dice(0.15, 0.05), 0.06, 0),
                    at,
                    BLACK,
                    turn=(math.pi / 2, 0, 0),
                    rounding=0.01,
                )
            )
    for side in (-0.6, 0.6):
        solids.append(
            Solid("ellipsoid", (0.04, 0.06, 0.06), (length + 0.04, side * width, 0), (1, 0.97, 0.75))
        )
    return solids


def _duck(dice: _Dice, color: Vec3) -> list[Solid]:
    length, head, neck = dice(0.46), dice(0.22, 0.08), dice(0.3)
    z = 0.02 + neck
    solids = [
        Solid("ellipsoid", (length, 0.33, 0.27), (-0.05, 0, -0.15), color),
        Solid("ellipsoid", (0.2, 0.14, 0.12), (-length - 0.02, 0, 0.0), color, turn=(0, 0.6, 0), blend=0.1),
        Solid("ellipsoid", (head,) * 3, (length * 0.6, 0, z), color, blend=0.12),
        Solid("ellipsoid", (0.14, 0.12, 0.045), (length * 0.6 + head + 0.05, 0, z - 0.04), ORANGE),
    ]
    for y in (-1, 1):
        solids.append(
            Solid("ellipsoid", (0.04,) * 3, (length * 0.6 + head * 0.72, y * head * 0.58, z + 0.08), BLACK)
        )
        solids.append(
            Solid("ellipsoid", (0.26, 0.06, 0.15), (-0.12, y * 0.32, -0.08), color, turn=(0, 0.2, 0))
        )
    return solids


def _fish(dice: _Dice, color: Vec3) -> list[Solid]:
    length, height = dice(0.45, 0.08), dice(0.29)
    fin = tuple(min(1.0, c * 0.65 + 0.3) for c in color)
    fin_color = (fin[0], fin[1], fin[2])
    solids = [
        Solid("ellipsoid", (length, 0.16, height), (0.1, 0, 0), color),
        Solid("ellipsoid", (0.26, 0.035, 0.11), (-length - 0.08, 0, 0.14), fin_color, turn=(0, 0.75, 0)),
        Solid("ellipsoid", (0.26, 0.035, 0.11), (-length - 0.08, 0, -0.14), fin_color, turn=(0, -0.75, 0)),
        Solid("ellipsoid", (0.24, 0.03, dice(0.16)), (0.02, 0, height), fin_color),
    ]
    for y in (-1, 1):
        solids.append(
            Solid("ellipsoid", (0.075, 0.035, 0.075), (0.1 + length * 0.62, y * 0.115, 0.07), (0.98,) * 3)
        )
        solids.append(Solid("ellipsoid", (0.04, 0.035, 0.04), (0.1 + length * 0.66, y * 0.135, 0.07), BLACK))
        solids.append(
            Solid("ellipsoid", (0.15, 0.03, 0.07), (0.1, y * 0.19, -0.08), fin_color, turn=(0, -0.5, y * 0.4))
        )
    return solids


def _robot(dice: _Dice, color: Vec3) -> list[Solid]:
    width, torso, head = dice(0.24), dice(0.25), dice(0.17)
    top = torso + 0.06 + head
    solids = [
        Solid("box", (0.16, width, torso), (0, 0, 0), color, rounding=0.02),
        Solid("box", (head * 0.9, head * 1.15, head * 0.85), (0, 0, top), color, rounding=0.02),
        Solid("cylinder", (0.06, 0.1, 0), (0, 0, torso + 0.02), STEEL),
        Solid("cylinder", (0.02, 0.1, 0), (0, 0, top + head + 0.08), STEEL),
        Solid(
            "ellipsoid",
            (0.05,) * 3,
            (0, 0, top + head + 0.2),
            COLORS["red"] if color != COLORS["red"] else GLASS,
        ),
        Solid("box", (0.03, width * 0.6, torso * 0.35), (0.17, 0, 0.06), STEEL),
    ]
    for y in (-1, 1):
        solids.append(
            Solid("ellipsoid", (0.04, 0.055, 0.055), (head * 0.92 + 0.02, y * head * 0.5, top + 0.02), GLASS)
        )
        solids.append(Solid("capsule", (0.06, 0.17, 0), (0, y * (width + 0.11), 0.03), STEEL))
        solids.append(Solid("ellipsoid", (0.09,) * 3, (0, y * (width + 0.11), -0.19), color))
        solids.append(Solid("cylinder", (0.08, 0.14, 0), (0, y * width * 0.55, -torso - 0.14), STEEL))
        solids.append(
            Solid("box", (0.14, 0.1, 0.05), (0.04, y * width * 0.55, -torso - 0.3), color, rounding=0.01)
        )
    return solids


def _lamp(dice: _Dice, color: Vec3) -> list[Solid]:
    bottom, top, h = dice(0.44), dice(0.24), dice(0.25)
    return [
        Solid("cone", (bottom, top, h), (0, 0, 0.32), color),
        Solid("cylinder", (dice(0.045), 0.42, 0), (0, 0, -0.15), STEEL),
        Solid("cone", (dice(0.26), 0.12, 0.045), (0, 0, -0.55), STEEL, rounding=0.015),
        Solid("ellipsoid", (0.05,) * 3, (0, 0, 0.32 + h + 0.05), STEEL),
    ]


def _tower(dice: _Dice, color: Vec3) -> list[Solid]:
    r, h, top = dice(0.27), dice(0.45, 0.08), dice(0.36, 0.06)
    solids = [
        Solid("cone", (r * 1.15, r, h), (0, 0, -0.12), color),
        Solid("cylinder", (top, 0.09, 0), (0, 0, h - 0.06), color),
        Solid("box", (0.08, 0.09, 0.16), (r, 0, -h + 0.04), BLACK),
        Solid("box", (0.06, 0.05, 0.09), (r, 0, 0.05), BLACK),
        Solid("box", (0.05, 0.06, 0.09), (0, r, -0.05), BLACK),
        Solid("box", (0.05, 0.06, 0.09), (0, -r, -0.05), BLACK),
    ]
    for i in range(8):
        a = (i + 0.5) * math.tau / 8
        at = (top * 0.85 * math.cos(a), top * 0.85 * math.sin(a), h + 0.08)
        solids.append(Solid("box", (0.06, 0.075, 0.08), at, color, turn=(0, 0, a)))
    return solids


CATEGORIES: dict[str, Callable[[_Dice, Vec3], list[Solid]]] = {
    "mushroom": _mushroom,
    "snowman": _snowman,
    "rocket": _rocket,
    "cactus": _cactus,
    "tree": _tree,
    "house": _house,
    "car": _car,
    "duck": _duck,
    "fish": _fish,
    "robot": _robot,
    "lamp": _lamp,
    "tower": _tower,
}


def make_object(seed: int, category: str | None = None, color: str | None = None) -> WorldObject:
    """The object number `seed` of this endless world; category and colour are drawn where not given."""
    dice = _Dice(seed)
    pick = dice.random.choice
    category = category or pick(list(CATEGORIES))
    color = color or pick(list(COLORS))
    stretch = dice.random.choices(list(STRETCHES), (0.7, 0.15, 0.15))[0]
    red, green, blue = (min(1.0, max(0.0, c + dice.random.uniform(-0.04, 0.04))) for c in COLORS[color])
    shape = Shape(tuple(CATEGORIES[category](dice, (red, green, blue))), stretch=STRETCHES[stretch])
    shape = fit_to_sphere(shape, radius=dice(0.64, 0.03))
    words = " ".join(filter(None, (stretch, pick(COLOR_SYNONYMS[color]), pick(SYNONYMS[category]))))
    caption = _mend_article(pick(TEMPLATES).format(words))
    return WorldObject(shape, category, color, caption)


def _mend_article(text: str) -> str:
    return text.replace("a orange", "an orange")


def vocabulary() -> list[str]:
    """Every word that a caption can hold, sorted."""
    texts = [*TEMPLATES, *STRETCHES]
    words = {word for text in texts for word in text.replace("{}", " ").replace(",", " ").split()}
    return sorted(words | words_of(SYNONYMS) | words_of(COLOR_SYNONYMS) | {"an", ","})


def words_of(names: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Every word in lists of synonyms."""
    return {word for group in names.values() for name in group for word in name.split()}
