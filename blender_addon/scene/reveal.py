"""Shows an artist what has just come: selected, active, and in the views where it would be out of sight."""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Vector

from .placement import Box

_MARGIN = 0.95  # of half a view: what reaches out further is not well in sight


def select(layer: bpy.types.ViewLayer, items: list[bpy.types.Object], active: bpy.types.Object) -> None:
    """Select these objects of a view layer and no others; in Object Mode, where that interrupts nothing."""
    current = layer.objects.active
    if current is not None and current.mode != "OBJECT":
        return
    here = [item for item in items if item.name in layer.objects]
    for item in list(layer.objects.selected):
        item.select_set(False, view_layer=layer)
    for item in here:
        item.select_set(True, view_layer=layer)
    if active in here:
        layer.objects.active = active


def frame(scene: bpy.types.Scene, box: Box) -> None:
    """Let the 3D views of a scene show what is selected, where its box is out of view.

    Views through a camera stay: what a camera shows is the artist's composition.
    """
    for window in bpy.context.window_manager.windows:
        if window.scene != scene:
            continue
        for area in window.screen.areas:
            if area.type != "VIEW_3D":
                continue
            view = area.spaces.active.region_3d
            region = next((each for each in area.regions if each.type == "WINDOW"), None)
            if view is None or region is None or view.view_perspective == "CAMERA" or _in_view(view, box):
                continue
            with bpy.context.temp_override(window=window, area=area, region=region):
                if bpy.ops.view3d.view_selected.poll():
                    bpy.ops.view3d.view_selected()


def _in_view(view: bpy.types.RegionView3D, box: Box) -> bool:
    """Whether the whole box is before the eye and inside of the view's edges."""
    seen = np.array([view.perspective_matrix @ Vector((*corner, 1.0)) for corner in box.corners])  # [8, 4]
    return bool((seen[:, 3] > 0).all() and (np.abs(seen[:, :2]) < _MARGIN * seen[:, 3:]).all())
