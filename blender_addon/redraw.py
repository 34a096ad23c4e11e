"""Lets Blender draw Diorama's panels again and nothing else: a whole 3D view may take a tenth of a second."""

from __future__ import annotations

import functools
import time

import bpy

TAB = "Diorama"
SHARE = 1 / 30  # of Blender's time that a running job's panel may take: without a GPU, drawing it takes 0.1 s
MOST_S = 4.0  # that they wait all the same, where other programs make drawing slow


class _Pace:
    ready_at = 0.0  # monotonic; what is drawn before then would take more


_pace = _Pace()


def is_too_soon() -> bool:
    """Whether the panels were drawn a moment ago, for as long as drawing took then."""
    return time.monotonic() < _pace.ready_at


def _measure(begun: float) -> None:
    """Called once Blender has drawn."""
    now = time.monotonic()
    _pace.ready_at = now + min((now - begun) * (1 / SHARE - 1), MOST_S)


def panels(preferences: bool = False) -> None:
    """Redraws the sidebars that show the Diorama tab, and the preferences where they are concerned too."""
    bpy.app.timers.register(functools.partial(_measure, time.monotonic()), first_interval=0)
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D" and area.spaces.active.show_region_ui:
                for region in area.regions:
                    # which tab is open can be asked since Blender 4.3
                    if region.type == "UI" and getattr(region, "active_panel_category", TAB) == TAB:
                        region.tag_redraw()
            elif preferences and area.type == "PREFERENCES":
                area.tag_redraw()


def status_bar() -> None:
    """Redraws the status bar, which no script can reach but which listens to the view layers' names."""
    bpy.msgbus.publish_rna(key=(bpy.types.ViewLayer, "name"))
