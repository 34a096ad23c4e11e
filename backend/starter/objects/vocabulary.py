"""The words of the starter's world: kinds of things, colours, patterns, proportions, synonyms."""

from __future__ import annotations

from collections.abc import Mapping

from ..patterns import PatternKind, Vec3
from .buildings_and_vehicles import BUILDINGS_AND_VEHICLES
from .food_and_plants import FOOD_AND_PLANTS
from .household import HOUSEHOLD
from .land_animals import LAND_ANIMALS
from .parts import ACCESSORIES, Builder
from .small_animals import SMALL_ANIMALS
from .treasures import TREASURES

SYNONYMS: dict[str, tuple[str, ...]] = {
    "cat": ("kitten", "kitty"),
    "dog": ("puppy", "hound"),
    "rabbit": ("bunny", "hare"),
    "bear": ("teddy", "teddy bear"),
    "pig": ("piglet",),
    "cactus": (),
    "penguin": (),
    "duck": ("duckling",),
    "fish": ("goldfish",),
    "apple": (),
    "turtle": ("tortoise",),
    "carrot": (),
    "tree": (),
    "flower": ("daisy", "blossom"),
    "pumpkin": ("jack o lantern",),
    "cake": ("birthday cake",),
    "mushroom": ("toadstool",),
    "tower": ("turret", "castle tower"),
    "ice cream": ("ice cream cone", "gelato"),
    "cupcake": ("muffin",),
    "donut": ("doughnut",),
    "balloon": ("hot air balloon",),
    "house": ("cottage", "hut", "home"),
    "rocket": ("spaceship", "spacecraft"),
    "castle": ("fortress", "palace"),
    "windmill": ("mill",),
    "lighthouse": ("beacon",),
    "teapot": ("tea pot", "kettle"),
    "car": ("automobile", "vehicle"),
    "lamp": ("table lamp", "light"),
    "guitar": ("ukulele",),
    "plane": ("airplane", "aircraft", "aeroplane"),
    "cup": ("mug", "coffee cup"),
    "gift": ("present", "gift box"),
    "chest": ("treasure chest", "treasure"),
    "bell": (),
    "robot": ("android", "droid"),
    "snowman": (),
    "heart": (),
    "star": (),
}
_BUILDERS = {
    **LAND_ANIMALS,
    **SMALL_ANIMALS,
    **FOOD_AND_PLANTS,
    **BUILDINGS_AND_VEHICLES,
    **HOUSEHOLD,
    **TREASURES,
}
# Their order decides which colours each is held out in, and which object a number is.
CATEGORIES: dict[str, Builder] = {name: _BUILDERS[name] for name in SYNONYMS}

COLORS: dict[str, Vec3] = {
    "red": (0.84, 0.09, 0.08),
    "orange": (0.97, 0.48, 0.04),
    "yellow": (0.97, 0.86, 0.10),
    "lime": (0.60, 0.88, 0.14),
    "green": (0.10, 0.50, 0.18),
    "turquoise": (0.12, 0.74, 0.72),
    "blue": (0.10, 0.28, 0.86),
    "purple": (0.46, 0.12, 0.72),
    "pink": (0.98, 0.50, 0.74),
    "brown": (0.42, 0.23, 0.11),
    "black": (0.07, 0.07, 0.08),
    "white": (0.95, 0.95, 0.95),
}

COLOR_SYNONYMS: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet"),
    "orange": ("tangerine",),
    "yellow": ("golden",),
    "lime": ("light green", "lime green"),
    "green": ("dark green", "emerald"),
    "turquoise": ("teal", "cyan", "aqua"),
    "blue": ("navy", "azure"),
    "purple": ("violet",),
    "pink": ("rose", "magenta"),
    "brown": ("chocolate",),
    "black": ("dark",),
    "white": ("snowy", "ivory"),
}
PATTERNS: dict[PatternKind, tuple[str, ...]] = {
    "stripes": ("striped", "stripy"),
    "spots": ("spotted", "dotted", "polka dot"),
    "checks": ("checkered", "checked"),
}
PROPORTIONS: dict[str, tuple[Vec3, tuple[str, ...]]] = {
    "tall": ((0.84, 0.84, 1.25), ("tall", "slim", "thin")),
    "wide": ((1.14, 1.14, 0.8), ("wide", "fat", "chubby", "squat")),
    "long": ((1.35, 0.92, 0.92), ("long",)),
}
SMALL = ("small", "tiny", "little")
SMALL_SCALE = 0.66
TEMPLATES = (
    *("a {}",) * 4,
    *("{}",) * 2,
    "the {}",
    "one {}",
    "an image of a {}",
    "a toy {}",
    "a model of a {}",
    "a cute {}",
    "a cartoon {}",
    "a {} , 3d asset",
)
TOKENS = 24  # of a prompt, with the one that begins it
JOINING = (
    "and",
    "with",
    "a",
    "an",
    "pattern",
    "stripes",
    "spots",
    "dots",
    "checks",
    "parts",
    "trim",
    "wearing",
    ",",
)


def is_held_out(category: str, color: str) -> bool:
    """Whether the two are never seen together in training: one in six pairs, of every kind and colour."""
    return (list(CATEGORIES).index(category) + list(COLORS).index(color)) % 6 == 0


def names_of(name: str, synonyms: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What something is called, its own name first."""
    return (name, *synonyms[name])


def vocabulary() -> list[str]:
    """Every word that a caption can hold, sorted."""
    texts = [
        *TEMPLATES,
        *SMALL,
        *JOINING,
        *ACCESSORIES,
        *(word for _, words in PROPORTIONS.values() for word in words),
        *(word for words in PATTERNS.values() for word in words),
        *(word for table in (SYNONYMS, COLOR_SYNONYMS) for name in table for word in names_of(name, table)),
    ]
    return sorted({word for text in texts for word in text.replace("{}", " ").split()})
