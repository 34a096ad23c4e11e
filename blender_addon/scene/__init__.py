"""Asset folders and splat files as objects of the scene, and back."""

from __future__ import annotations

from . import carry, file_operators, operators, panel, result_operators, view_files, viewport, whole
from .assets import import_asset, orbit_camera, result_root, splat_objects, view_cameras
from .render import prepare_render
from .sequences import frame_objects, scene_frame

__all__ = [
    "frame_objects",
    "import_asset",
    "orbit_camera",
    "prepare_render",
    "register",
    "result_root",
    "scene_frame",
    "splat_objects",
    "unregister",
    "view_cameras",
]


def register() -> None:
    """Adds operators, menu entries and the panel."""
    operators.register()
    file_operators.register()
    result_operators.register()
    viewport.register()
    panel.register()
    carry.register()
    whole.register()
    view_files.register()


def unregister() -> None:
    view_files.unregister()
    whole.unregister()
    carry.unregister()
    panel.unregister()
    viewport.unregister()
    result_operators.unregister()
    file_operators.unregister()
    operators.unregister()
