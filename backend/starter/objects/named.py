"""Named objects of the starter's world: every seed is one, with a caption that says what it is."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from ..patterns import Pattern, PatternKind, Vec3
from ..sdf import Shape
from .framing import fit_to_frame
from .parts import ACCESSORIES, Dice, Paint, wearing
from .vocabulary import (
    CATEGORIES,
    COLOR_SYNONYMS,
    COLORS,
    PATTERNS,
    PROPORTIONS,
    SMALL,
    SMALL_SCALE,
    SYNONYMS,
    TEMPLATES,
    names_of,
)

_TWO_COLORS, _PATTERNED, _WEARING, _SHAPED, _SMALL = 0.2, 0.2, 0.35, 0.2, 0.06  # parts of all objects


@dataclass(frozen=True)
class Request:
    """What an object is to be; what is None is drawn.

    Attributes:
        trim: its second colour, "" for the usual one.
        pattern: of both colours, "" for none.
    """

    category: str | None = None
    color: str | None = None
    trim: str | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class WorldObject:
    """One object of the world and what is true of it."""

    shape: Shape
    category: str
    color: str
    trim: str
    pattern: str
    caption: str


def make_object(seed: int, wanted: Request = Request()) -> WorldObject:
    """The object number `seed` of this endless world."""
    dice = Dice(f"object {seed}")
    pick, chance = dice.pick, dice.chance
    category = wanted.category or pick(*CATEGORIES)
    color = wanted.color or pick(*COLORS)
    kind = chance(_TWO_COLORS), chance(_PATTERNED)
    other = pick(*(name for name in COLORS if name != color))
    pattern = wanted.pattern if wanted.pattern is not None else pick(*PATTERNS) if kind[1] else ""
    trim = wanted.trim if wanted.trim is not None else other if kind[0] or pattern else ""
    figure = CATEGORIES[category](dice, _paint(dice, color, trim, pattern))
    worn = ""
    if figure.head and wanted == Request() and chance(_WEARING):
        worn = pick(*ACCESSORIES)
        worn_color = pick(*COLORS)
        figure = wearing(figure, worn, _shade(dice, worn_color))
        worn = worn if worn == "crown" else f"{_called(dice, worn_color, COLOR_SYNONYMS)} {worn}"
    shaped = chance(_SHAPED) and wanted == Request()
    stretch, words = PROPORTIONS[pick(*PROPORTIONS)] if shaped else ((1.0, 1.0, 1.0), ("",))
    small = chance(_SMALL) and wanted == Request()
    shape = fit_to_frame(Shape(tuple(figure.solids), stretch), SMALL_SCALE if small else 1.0)
    words = (pick(*SMALL) if small else "", pick(*words))
    caption = _caption(dice, words, category, color, trim, pattern, worn)
    return WorldObject(shape, category, color, trim, pattern, caption)


def prompt_for(category: str, color: str, trim: str = "", pattern: str = "") -> str:
    """What a person would type to get it."""
    colors = f"{color} and {trim}" if trim else color
    return mend_article(f"a {colors} {PATTERNS[pattern][0] if pattern else ''} {category}")  # type: ignore[index]


def _shade(dice: Dice, color: str) -> Vec3:
    red, green, blue = (min(1.0, max(0.0, c + dice.random.uniform(-0.04, 0.04))) for c in COLORS[color])
    return red, green, blue


def _paint(dice: Dice, color: str, trim: str, pattern: str) -> Paint:
    main = _shade(dice, color)
    if not trim:
        return Paint(main)
    second = _shade(dice, trim)
    if not pattern:
        return Paint(main, second)
    size = {"stripes": dice(0.2, 0.25), "spots": dice(0.27, 0.2), "checks": dice(0.3, 0.2)}[pattern]
    angle = dice.pick(0.0, 0.0, 0.0, math.pi / 4)
    along = (0.0, math.sin(angle), math.cos(angle))
    if dice.chance(0.3):
        along = (1.0, 0.0, 0.0)
    shift = (dice.random.uniform(0, size), dice.random.uniform(0, size), dice.random.uniform(0, size))
    kind: PatternKind = pattern  # type: ignore[assignment]
    return Paint(Pattern(kind, main, second, size, along, shift))


def _called(dice: Dice, name: str, synonyms: dict[str, tuple[str, ...]]) -> str:
    """Its own name mostly, else a synonym."""
    names = names_of(name, synonyms)
    return name if dice.chance(0.6) else str(dice.pick(*names))


def _caption(
    dice: Dice, words: tuple[str, str], category: str, color: str, trim: str, pattern: str, worn: str
) -> str:
    name = _called(dice, category, SYNONYMS)
    first = _called(dice, color, COLOR_SYNONYMS)
    second = _called(dice, trim, COLOR_SYNONYMS) if trim else ""
    before, after = first, ""
    if pattern:
        adjective = dice.pick(*PATTERNS[pattern])  # type: ignore[index]
        noun = "dots" if pattern == "spots" and dice.chance(0.4) else pattern
        before, after = dice.pick(
            (f"{first} and {second} {adjective}", ""),
            (f"{adjective} {first} and {second}", ""),
            (first, f"with {second} {noun}"),
        )
    elif trim:
        before, after = dice.pick(
            (f"{first} and {second}", ""), (first, f"with {second} parts"), (first, f"with {second} trim")
        )
    if worn:
        after += f" {dice.pick('with a', 'wearing a')} {worn}" if not after else f" and a {worn}"
    said = " ".join(filter(None, (*words, before, name, after)))
    return mend_article(str(dice.pick(*TEMPLATES)).format(said))


def mend_article(text: str) -> str:
    """ "an orange apple", and single spaces."""
    words = text.split()
    for i, (word, following) in enumerate(itertools.pairwise(words)):
        if word in ("a", "an"):
            words[i] = "an" if following[0] in "aeio" else "a"
    return " ".join(words)
