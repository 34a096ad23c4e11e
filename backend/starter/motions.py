"""How the objects of the starter's world move: eight motions that repeat, and what they are called."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

from .objects.framing import lowest
from .objects.named import Request, make_object, prompt_for
from .objects.parts import Dice
from .sdf import Pose, Shape

STILL = "still"
MOTION_SYNONYMS: dict[str, tuple[str, ...]] = {
    STILL: ("",),
    "swimming": ("swimming", "wriggling"),
    "hopping": ("hopping", "jumping", "bouncing"),
    "swaying": ("swaying", "rocking"),
    "nodding": ("nodding", "bowing"),
    "turning": ("turning", "looking around"),
    "shaking": ("shaking", "trembling"),
    "growing": ("growing", "pulsing"),
    "stretching": ("stretching", "squashing"),
}
_ANYTHING = Request()
ROOM = 0.93  # how large an object is beside one that need not move
ROOM_TO_MOVE = {"swimming": 0.85, "hopping": 0.68, "swaying": 0.8, "nodding": 0.8, "stretching": 0.78}


def _swimming(phase: float, strength: float) -> Pose:
    return Pose(wave=0.15 * strength, wave_phase=phase)


def _hopping(phase: float, strength: float) -> Pose:
    high = (1 - math.cos(phase)) / 2
    return Pose(lift=strength * (0.22 * high - 0.11), squash=1 + 0.16 * strength * (high - 0.5))


def _swaying(phase: float, strength: float) -> Pose:
    return Pose(lean=0.34 * strength * math.sin(phase))


def _nodding(phase: float, strength: float) -> Pose:
    return Pose(nod=0.34 * strength * math.sin(phase))


def _turning(phase: float, strength: float) -> Pose:
    return Pose(turn=0.75 * strength * math.sin(phase))


def _shaking(phase: float, strength: float) -> Pose:
    return Pose(turn=0.3 * strength * math.sin(2 * phase))


def _growing(phase: float, strength: float) -> Pose:
    return Pose(size=1 - 0.36 * strength * (1 + math.cos(phase)) / 2)


def _stretching(phase: float, strength: float) -> Pose:
    return Pose(squash=0.94 - 0.2 * strength * math.cos(phase))


_POSES: dict[str, Callable[[float, float], Pose]] = {
    STILL: lambda phase, strength: Pose(),
    "swimming": _swimming,
    "hopping": _hopping,
    "swaying": _swaying,
    "nodding": _nodding,
    "turning": _turning,
    "shaking": _shaking,
    "growing": _growing,
    "stretching": _stretching,
}


@dataclass(frozen=True)
class WorldClip:
    """One object of the world that moves, and what is true of it."""

    frames: tuple[Shape, ...]  # one period, evenly spaced
    category: str
    color: str
    motion: str
    caption: str


def make_clip(seed: int, frames: int, wanted: Request = _ANYTHING, motion: str | None = None) -> WorldClip:
    """The moving object number `seed`; what is not given is drawn."""
    dice = Dice(f"motion {seed}")
    motion = motion or str(dice.pick(*MOTION_SYNONYMS))
    item = make_object(seed, wanted)
    shape = replace(item.shape, scale=ROOM_TO_MOVE.get(motion, ROOM) * item.shape.scale)
    strength, ground = dice(1.0, 0.1), lowest(shape)
    poses = [_POSES[motion](2 * math.pi * i / frames, strength) for i in range(frames)]
    exact = [Pose(*(round(value, 9) for value in astuple(replace(pose, ground=ground)))) for pose in poses]
    shapes = tuple(replace(shape, pose=pose) for pose in exact)  # the same on the way back
    caption = f"{item.caption} {dice.pick(*MOTION_SYNONYMS[motion])}".strip()
    return WorldClip(shapes, item.category, item.color, motion, caption)


def moving_prompt_for(category: str, color: str, motion: str) -> str:
    """A prompt for it, in a person's words."""
    return prompt_for(category, color) + (f" {motion}" if motion != STILL else "")


def motion_vocabulary() -> list[str]:
    """The words that captions of clips have in addition to those of `vocabulary`, sorted."""
    return sorted({word for names in MOTION_SYNONYMS.values() for name in names for word in name.split()})
