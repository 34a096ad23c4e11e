"""The scene settings without which splats render wrong: every change is reported, none is silent."""

from __future__ import annotations

from typing import Any

import bpy

from . import display

TRANSPARENT_BOUNCES = 256  # layers a ray may pass; Blender's default of 8 shows splats as noise


def raise_bounces(scene: bpy.types.Scene) -> list[str]:
    """Let Cycles see through enough splats; what is higher already stays.

    Returns:
        What was changed, in words.
    """
    return [_change(*setting) for setting in _low_bounces(scene)]


def prepare_render(scene: bpy.types.Scene, camera: bpy.types.Object | None = None) -> list[str]:
    """Make a scene show splats with the colours they were generated with: for batches, or on request.

    Args:
        camera: becomes the scene's camera if given.

    Returns:
        What was changed, in words.
    """
    changes = [_change(*setting) for setting in (*_low_bounces(scene), *_other_colours(scene))]
    display.hold_out_others(scene)
    if camera is not None and scene.camera != camera:
        before = scene.camera.name if scene.camera else "none"
        changes.append(f"Camera {before} → {camera.name}")
        scene.camera = camera
    return changes


def obstacles(scene: bpy.types.Scene) -> list[str]:
    """What keeps a scene from showing splats as they were generated, in words."""
    return [
        f"{label} is {getattr(owner, name)}"
        for owner, name, label, _ in (*_low_bounces(scene), *_other_colours(scene))
    ]


_Setting = tuple[Any, str, str, Any]  # owner, property, label, the value that is needed


def _low_bounces(scene: bpy.types.Scene) -> list[_Setting]:
    if not hasattr(scene, "cycles"):  # Cycles is an add-on that can be switched off
        return []
    settings = (
        (scene.cycles, "transparent_max_bounces", "Cycles Transparent Max Bounces", TRANSPARENT_BOUNCES),
        (scene.cycles, "min_transparent_bounces", "Cycles Min Transparent Bounces", TRANSPARENT_BOUNCES),
    )
    return [setting for setting in settings if getattr(setting[0], setting[1]) < setting[3]]


def _other_colours(scene: bpy.types.Scene) -> list[_Setting]:
    view = scene.view_settings
    settings = ((view, "view_transform", "View Transform", "Standard"), (view, "look", "Look", "None"))
    return [setting for setting in settings if getattr(setting[0], setting[1]) != setting[3]]


def _change(owner: Any, name: str, label: str, value: Any) -> str:
    before = getattr(owner, name)
    setattr(owner, name, value)
    return f"{label} {before} → {value}"
