"""How the objects of the small world move: five motions that repeat, and what they are called."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from .sdf import Pose, Shape
from .world import make_object, prompt_for, words_of

STILL = "still"
MOTION_SYNONYMS: dict[str, tuple[str, ...]] = {
    STILL: ("",),
    "swimming": ("swimming", "wriggling"),
    "hopping": ("hopping", "jumping", "bouncing"),
    "swaying": ("swaying", "rocking"),
    "turning": ("turning", "looking around"),
    "growing": ("growing", "pulsing"),
}
ROOM = 0.92  # how large an object is beside one that need not move
ROOM_TO_TRAVEL = {"swimming": 0.8, "hopping": 0.8}


def _swimming(phase: float, strength: float) -> Pose:
    return Pose(wave=0.13 * strength, wave_phase=phase)


def _hopping(phase: float, strength: float) -> Pose:
    high = (1 - math.cos(phase)) / 2
    return Pose(lift=strength * (0.18 * high - 0.08), squash=1 + 0.14 * strength * (high - 0.5))


def _swaying(phase: float, strength: float) -> Pose:
    return Pose(lean=0.34 * strength * math.sin(phase))


def _turning(phase: float, strength: float) -> Pose:
    return Pose(turn=0.7 * strength * math.sin(phase))


def _growing(phase: float, strength: float) -> Pose:
    return Pose(size=1 - 0.36 * strength * (1 + math.cos(phase)) / 2)


_POSES: dict[str, Callable[[float, float], Pose]] = {
    STILL: lambda phase, strength: Pose(),
    "swimming": _swimming,
    "hopping": _hopping,
    "swaying": _swaying,
    "turning": _turning,
    "growing": _growing,
}


@dataclass(frozen=True)
class WorldClip:
    """One object of the world that moves, and what is true of it."""

    frames: tuple[Shape, ...]  # one period, evenly spaced
    category: str
    color: str
    motion: str
    caption: str


def make_clip(
    seed: int, frames: int, category: str | None = None, color: str | None = None, motion: str | None = None
) -> WorldClip:
    """The moving object number `seed`; what is not given is drawn."""
    dice = random.Random(f"motion {seed}")
    motion = motion or dice.choice(list(MOTION_SYNONYMS))
    item = make_object(seed, category, color, doing=dice.choice(MOTION_SYNONYMS[motion]))
    strength = dice.uniform(0.9, 1.1)
    shape = replace(item.shape, scale=ROOM_TO_TRAVEL.get(motion, ROOM) * item.shape.scale)
    poses = [_POSES[motion](2 * math.pi * i / frames, strength) for i in range(frames)]
    shapes = tuple(replace(shape, pose=pose) for pose in poses)
    return WorldClip(shapes, item.category, item.color, motion, item.caption)


def moving_prompt_for(category: str, color: str, motion: str) -> str:
    """A prompt for it, in a person's words."""
    return prompt_for(category, color) + (f" {motion}" if motion != STILL else "")


def motion_vocabulary() -> list[str]:
    """The words that captions of clips have in addition to those of `world.vocabulary`, sorted."""
    return sorted(words_of(MOTION_SYNONYMS))
