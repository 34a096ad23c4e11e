"""What Blender's layouts lack: paragraphs, and the progress of what the backend does."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import blf
import bpy

from ..client.job_progress import JobProgress
from ..reporting import sentence

_FONT = 0  # the one of the interface
# What the borders of a region take from a text, before the scale of the interface: of the sidebar with its
# tabs, and of the preferences with their list of sections in a region of its own.
_MARGIN_PX = {"UI": 54, "WINDOW": 76}
_BOX_PX, _ICON_PX = 16, 22
MOST_LINES = 6  # of a warning, which may quote a long prompt


def draw_text(
    layout: bpy.types.UILayout, text: str, icon: str = "NONE", share: float = 1.0, most: int | None = None
) -> None:
    """A paragraph: Blender's labels do not wrap.

    Args:
        share: of the region's width that the layout has.
        most: lines that are shown; the rest is left out.
    """
    scale = bpy.context.preferences.system.ui_scale or 1.0  # 0 without a window
    region = bpy.context.region
    margin = (
        (_MARGIN_PX.get(region.type, 60) if region else 0) + _BOX_PX + (_ICON_PX if icon != "NONE" else 0)
    )
    width = ((region.width if region else 600) * share - margin * scale) if share else 0
    column = layout.column(align=True)
    column.scale_y = 0.8
    lines = wrapped(text, max(width, 80 * scale), scale)
    if most and len(lines) > most:
        lines[most - 1 :] = [f"{lines[most - 1]} …"]
    for i, line in enumerate(lines):
        column.label(text=line, icon=icon if i == 0 else ("BLANK1" if icon != "NONE" else "NONE"))


def wrapped(text: str, width_px: float, scale: float) -> list[str]:
    """The text in lines that fit, by the width of its letters; numbers stay with what they count."""
    blf.size(_FONT, 11 * scale)
    lines = [""]
    for word in re.split(r"(?<!\d)\s+(?!\d+$)", text.strip()):
        longer = f"{lines[-1]} {word}".lstrip()
        if not lines[-1] or blf.dimensions(_FONT, longer)[0] <= width_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def draw_warnings(layout: bpy.types.UILayout, warnings: Iterable[str]) -> None:
    """What was not as it was asked for."""
    for warning in warnings:
        draw_text(layout, warning, "INFO", most=MOST_LINES)


def draw_error(layout: bpy.types.UILayout, error: Mapping[str, str], share: float = 1.0) -> None:
    """What went wrong and what to do about it; the code is for logs and scripts, not for reading."""
    alert = layout.column()
    alert.alert = True
    draw_text(alert, sentence(error["message"]), "ERROR", share)
    draw_text(layout, error["hint"], share=share)


def draw_progress(layout: bpy.types.UILayout, progress: JobProgress, expected: Sequence[Any] = ()) -> None:
    """A bar for the whole job where it is known what comes, else for the stage alone."""
    layout.progress(factor=fraction(progress, expected), text=summary(progress, expected))


def fraction(progress: JobProgress, expected: Sequence[Mapping[str, Any]] = ()) -> float:
    """How much is done: of the job by time, or of the stage by steps."""
    left_s = progress.left_s(expected)
    if left_s is not None:
        passed_s = time.monotonic() - progress.began
        return passed_s / max(passed_s + left_s, 1e-3)
    return progress.step / progress.total if progress.total else 0.0


def summary(progress: JobProgress, expected: Sequence[Mapping[str, Any]] = ()) -> str:
    """What is done now, and how long it will take, in a few words."""
    left_s = progress.left_s(expected)
    if left_s is not None:
        return f"{duration(left_s)} left"
    if not progress.total:
        return "…"
    steps = f"{progress.step}/{progress.total}"
    left = progress.stage_left_s()
    return steps if left is None else f"{steps} · this stage {duration(left)}"


def stage(progress: JobProgress, expected: Sequence[Mapping[str, Any]] = ()) -> str:
    """Which stage it is, of how many if that is known."""
    number = progress.number(expected)
    return f"{progress.stage} ({number} of {len(expected)})" if number else progress.stage


def duration(seconds: float) -> str:
    """In the unit that a person would take."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def ago(seconds: float) -> str:
    """How long ago something was, roughly."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
