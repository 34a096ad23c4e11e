"""Lets Blender draw Diorama's panels again and nothing else: a whole 3D view may take a tenth of a second."""

from __future__ import annotations

import bpy

TAB = "Diorama"


def panels(preferences: bool = False) -> None:
    """Redraws the sidebars that show the Diorama tab, and the preferences where they are concerned too."""
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
