"""The scene settings without which splats render wrong: every change is reported, none is silent."""

from __future__ import annotations

import bpy

from . import display

TRANSPARENT_BOUNCES = 256  # layers a ray may pass; Blender's default of 8 shows splats as noise


def raise_bounces(scene: bpy.types.Scene) -> list[str]:
    """Let Cycles see through enough splats; what is higher already stays.

    Returns:
        What was changed, in words.
    """
    cycles, changes = scene.cycles, []
    for name in ("transparent_max_bounces", "min_transparent_bounces"):
        if getattr(cycles, name) < TRANSPARENT_BOUNCES:
            label = cycles.bl_rna.properties[name].name
            changes.append(f"Cycles {label} {getattr(cycles, name)} → {TRANSPARENT_BOUNCES}")
            setattr(cycles, name, TRANSPARENT_BOUNCES)
    return changes


def prepare_render(scene: bpy.types.Scene, camera: bpy.types.Object | None = None) -> list[str]:
    """Make a scene show splats with the colours they were generated with: for batches, or on request.

    Args:
        camera: becomes the scene's camera if given.

    Returns:
        What was changed, in words.
    """
    changes = raise_bounces(scene)
    display.hold_out_others(scene)
    view = scene.view_settings
    for label, name, value in (("View Transform", "view_transform", "Standard"), ("Look", "look", "None")):
        if getattr(view, name) != value:
            changes.append(f"{label} {getattr(view, name)} → {value}")
            setattr(view, name, value)
    if camera is not None and scene.camera != camera:
        before = scene.camera.name if scene.camera else "none"
        changes.append(f"Camera {before} → {camera.name}")
        scene.camera = camera
    return changes
