"""What Blender's layouts lack: paragraphs, and the progress of what the backend does."""

from __future__ import annotations

import textwrap

import bpy

from ..client.job_progress import JobProgress


def draw_text(layout: bpy.types.UILayout, text: str, icon: str = "NONE") -> None:
    """A paragraph: Blender's labels do not wrap."""
    character_px = 7.0 * (bpy.context.preferences.system.ui_scale or 1.0)  # 0 without a window
    region = bpy.context.region
    width = max(20, int((region.width if region else 600) / character_px) - 8)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for i, line in enumerate(textwrap.wrap(text, width)):
        column.label(text=line, icon=icon if i == 0 else ("BLANK1" if icon != "NONE" else "NONE"))


def draw_progress(layout: bpy.types.UILayout, work: JobProgress) -> None:
    """A bar with the stage, its steps and the time that is left."""
    steps = f" {work.step}/{work.total}" if work.total else " …"
    left = "" if work.eta_s is None or not work.total else f", {_duration(work.eta_s)} left"
    layout.progress(factor=work.step / work.total if work.total else 0.0, text=f"{work.stage}{steps}{left}")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
